/* Runs tables of steps with the native loop of driver.py; ends with 0 if every item was done once and in its turn.

   The macros are the constants of driver.py. */

#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void gpmt_run_alone(void *table, int64_t steps, int64_t repeat);
void gpmt_run(void *state, void *table, int64_t steps, int64_t repeat);
void gpmt_worker(void *state, int64_t thread);
void gpmt_stop(void *state);
void chain(int64_t *args, int64_t item);

enum { POOL = 4, STEPS_OF_TABLE = 12, MOST = 40, RUNS = 300 };

static char state[CURSORS + 8 * POOL] __attribute__((aligned(128)));
static int64_t made[STEPS_OF_TABLE][MOST], wanted[STEPS_OF_TABLE][MOST], items[STEPS_OF_TABLE];
static int64_t args[STEPS_OF_TABLE][3], table[STEPS_OF_TABLE][4];

static void put(int64_t offset, uint64_t value) { memcpy(state + offset, &value, 8); }

static void *work(void *index) {
  gpmt_worker(state, (int64_t)index);
  return NULL;
}

static void make_table(void) {
  for (int step = 0; step < STEPS_OF_TABLE; step++) items[step] = rand() % (MOST + 1);
  for (int step = 0; step < STEPS_OF_TABLE; step++) {
    int before = (step + STEPS_OF_TABLE - 1) % STEPS_OF_TABLE;
    int64_t of_args[3] = {(int64_t)made[before], items[before], (int64_t)made[step]};
    int64_t of_table[4] = {(int64_t)chain, (int64_t)args[step], items[step], 0};
    memcpy(args[step], of_args, sizeof of_args);
    memcpy(table[step], of_table, sizeof of_table);
  }
  memset(made, 0, sizeof made);
  memset(wanted, 0, sizeof wanted);
}

static void compute(int repeat) {
  for (int step = 0; step < repeat * STEPS_OF_TABLE; step++) {
    int at = step % STEPS_OF_TABLE, before = (step + STEPS_OF_TABLE - 1) % STEPS_OF_TABLE;
    uint64_t sum = 0;
    for (int64_t i = 0; i < items[before]; i++) sum += wanted[before][i];
    for (int64_t i = 0; i < items[at]; i++) wanted[at][i] = sum + i;
  }
}

int main(void) {
  pthread_t workers[POOL];
  pthread_mutex_init((pthread_mutex_t *)(state + MUTEX), NULL);
  pthread_cond_init((pthread_cond_t *)(state + CONDITION), NULL);
  put(SCHED_YIELD, (uint64_t)sched_yield);
  put(MUTEX_LOCK, (uint64_t)pthread_mutex_lock);
  put(MUTEX_UNLOCK, (uint64_t)pthread_mutex_unlock);
  put(COND_WAIT, (uint64_t)pthread_cond_wait);
  put(COND_BROADCAST, (uint64_t)pthread_cond_broadcast);
  put(SPINS, 100), put(YIELD_AFTER, 20), put(THREADS, POOL), put(MODE, IDLE);
  for (int thread = 0; thread < POOL; thread++) put(CURSORS + 8 * thread, CLOSED);
  for (int64_t thread = 1; thread < POOL; thread++) pthread_create(&workers[thread], NULL, work, (void *)thread);
  for (int run = 0; run < RUNS; run++) {
    int repeat = 1 + run % 3;
    make_table();
    compute(repeat);
    if (run % 10 == 0) gpmt_run_alone(table, STEPS_OF_TABLE, repeat);
    else gpmt_run(state, table, STEPS_OF_TABLE, repeat);
    if (memcmp(made, wanted, sizeof made)) return printf("run %d is wrong\n", run), 1;
    if (run % 7 == 0) usleep(3000); /* the workers fall asleep */
  }
  gpmt_stop(state);
  for (int thread = 1; thread < POOL; thread++) pthread_join(workers[thread], NULL);
  return 0;
}
