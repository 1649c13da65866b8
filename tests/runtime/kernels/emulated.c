/* Runs kernels on memory that it gets from standard input, and writes the memory to standard output.

   Numbers are int64. A task is

       page, areas, words, items, bytes of code
       for each area: pages, whether it is code
       for each word: the area that it points into, or -1; its value, or the offset from the area's first page
       the items, in the order in which they are done
       the code, and the contents of the areas

   and its answer the contents of the areas that are no code. Each area lies between two pages that can be neither read
   nor written, and so does the kernel's code. The program ends with the input. */

#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { SECONDS = 120 };

static void must(int done, const char *what) {
  if (!done) {
    perror(what);
    exit(2);
  }
}

static void receive(void *to, size_t bytes) { must(fread(to, 1, bytes, stdin) == bytes, "read"); }

static int64_t *receive_numbers(size_t count) {
  int64_t *numbers = malloc(8 * count + 8);
  must(numbers != NULL, "malloc");
  receive(numbers, 8 * count);
  return numbers;
}

static char *area(size_t bytes, size_t page) {
  char *all = mmap(NULL, bytes + 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  must(all != MAP_FAILED, "mmap");
  must(!mprotect(all, page, PROT_NONE) && !mprotect(all + page + bytes, page, PROT_NONE), "mprotect");
  return all + page;
}

static void make_executable(char *code, size_t bytes) {
  must(!mprotect(code, bytes, PROT_READ | PROT_EXEC), "mprotect");
  __builtin___clear_cache(code, code + bytes);
}

int main(void) {
  int64_t head[5];
  while (fread(head, 8, 5, stdin) == 5) {
    size_t page = head[0], areas = head[1], words = head[2], items = head[3], code_bytes = head[4];
    int64_t *sizes = receive_numbers(2 * areas), *places = receive_numbers(2 * words);
    int64_t *order = receive_numbers(items), *arguments = malloc(8 * words + 8);
    char **begins = malloc(sizeof(char *) * areas + 8);
    must((size_t)sysconf(_SC_PAGESIZE) == page && arguments && begins, "the size of a page");
    size_t mapped = (code_bytes + page - 1) / page * page;
    char *code = area(mapped, page);
    receive(code, code_bytes);
    make_executable(code, mapped);
    for (size_t i = 0; i < areas; i++) {
      begins[i] = area(sizes[2 * i] * page, page);
      receive(begins[i], sizes[2 * i] * page);
      if (sizes[2 * i + 1]) make_executable(begins[i], sizes[2 * i] * page);
    }
    for (size_t i = 0; i < words; i++)
      arguments[i] = places[2 * i + 1] + (places[2 * i] < 0 ? 0 : (int64_t)begins[places[2 * i]]);
    alarm(SECONDS);
    for (size_t i = 0; i < items; i++) ((void (*)(int64_t *, int64_t))code)(arguments, order[i]);
    alarm(0);
    for (size_t i = 0; i < areas; i++) {
      if (!sizes[2 * i + 1]) must(fwrite(begins[i], page, sizes[2 * i], stdout) == (size_t)sizes[2 * i], "write");
      munmap(begins[i] - page, (sizes[2 * i] + 2) * page);
    }
    must(!fflush(stdout), "write");
    munmap(code - page, mapped + 2 * page);
    free(sizes), free(places), free(order), free(arguments), free(begins);
  }
  return 0;
}
