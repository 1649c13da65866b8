"""The native loop that runs a table of steps: LLVM IR for the caller, for workers, and for a thread without workers.

A step is 32 bytes: function `void(int64* args, int64 item)`, args, items, and a word that only loops over samples
use (`execution/sample_loop.py`). Each thread of a pool has a contiguous range of every step's items, the same part of
them in all steps, so that it finds in its own cache what it has written in the step before. It claims items through
the range's *cursor*: step index in the high 32 bits, and in the low 32 bits a count that begins at
`2**31 - items of the range`. Adding one claims an item as long as bit 31 was clear; a set bit means that nothing is
left. A thread whose range is empty goes on to the others'. The thread that ends the last item of a step opens the
next one by storing new cursors; no thread waits for one that has no claimed item. So a thread that sleeps, or that
the system has preempted, does not delay the others, and a table needs no counters. A thread reads the table only
while it has a claimed item, and the step cannot end before that item: the table may be freed as soon as a run has
returned.
"""

from __future__ import annotations

from gpmt.runtime.threads.claims import CLAIMS

STEP_WORDS = 4
MAX_ITEMS = 2**31 - 1
CLOSED = 2**31  # the cursor of a range without items left
IDLE, RUNNING, STOP = range(3)  # modes

# Byte offsets in a pool's state. What different threads write is 128 bytes apart: two cache lines of x86, which
# fetches them in pairs, or one of Apple's.
MODE = 0
DONE = 128  # items of the open step that are done and reported
SLEEPERS = 256  # workers inside the mutex, or waiting for the condition
TABLE, STEPS, REPEAT = 384, 392, 400  # arguments of the run
SPINS, YIELD_AFTER = 512, 520  # pauses before an idle worker sleeps; before one waiting in a run yields
SCHED_YIELD, MUTEX_LOCK, MUTEX_UNLOCK, COND_WAIT, COND_BROADCAST = 528, 536, 544, 552, 560  # addresses
THREADS = 568
MUTEX, CONDITION = 640, 896  # 256 bytes each, more than any system's
CURSORS = 1152  # contiguous, so that a thread that looks for items reads many in one cache line

FUNCTIONS = ("gpmt_run_alone", "gpmt_run", "gpmt_worker", "gpmt_stop", "gpmt_pause")

_PAUSES = {
    "x86_64": ("declare void @llvm.x86.sse2.pause()", "call void @llvm.x86.sse2.pause()"),
    "aarch64": ("declare void @llvm.aarch64.hint(i32)", "call void @llvm.aarch64.hint(i32 1)"),
}
_PAUSES["arm64"] = _PAUSES["aarch64"]


def state_bytes(threads: int) -> int:
    """Return the bytes of a pool's state."""
    return CURSORS + 8 * threads


def driver_ir(triple: str) -> str:
    """Return the module of the native loop for a target triple, such as "x86_64-unknown-linux-gnu".

    Its functions take the addresses of a pool's state and of a table of steps:

    * `gpmt_run_alone(table, steps, repeat)`: run a table in this thread, without a state;
    * `gpmt_run(state, table, steps, repeat)`: run it with the workers that come; returns when all is done;
    * `gpmt_worker(state, thread)`: take part in runs until `gpmt_stop(state)`, which must not be called during a
      run; the caller is thread 0, and two workers may have the same number;
    * `gpmt_pause(count)`: execute the pause of the waiting loops `count` times, to time it.
    """
    declaration, pause = _PAUSES.get(triple.partition("-")[0], ("", ""))
    text = "\n".join((CLAIMS, _RUN_ALONE, _RUN, _SLEEP, _WORKER, _STOP_ALL, _PAUSE))
    names = {
        "DONE": DONE, "SLEEPERS": SLEEPERS, "TABLE": TABLE, "STEPS": STEPS, "REPEAT": REPEAT, "SPINS": SPINS,
        "YIELD_AFTER": YIELD_AFTER, "THREADS": THREADS, "SCHED_YIELD": SCHED_YIELD, "MUTEX_LOCK": MUTEX_LOCK,
        "MUTEX_UNLOCK": MUTEX_UNLOCK, "COND_WAIT": COND_WAIT, "COND_BROADCAST": COND_BROADCAST, "MUTEX": MUTEX,
        "CONDITION": CONDITION, "CURSORS": CURSORS, "STEP_BYTES": 8 * STEP_WORDS, "BIT": CLOSED, "IDLE": IDLE,
        "RUNNING": RUNNING, "STOP": STOP,
    }  # fmt: skip
    for name in sorted(names, key=len, reverse=True):
        text = text.replace(f"${name}", str(names[name]))
    return f"{declaration}\n{text.replace('$pause', pause)}"


_RUN_ALONE = """
define void @gpmt_run_alone(ptr %table, i64 %steps, i64 %repeat) {
entry:
  %nothing = icmp eq i64 %steps, 0
  br i1 %nothing, label %out, label %pass
pass:
  %round = phi i64 [ 0, %entry ], [ %next_round, %pass_end ]
  br label %step
step:
  %index = phi i64 [ 0, %pass ], [ %next_index, %step_end ]
  %offset = mul i64 %index, $STEP_BYTES
  %function_at = getelementptr i8, ptr %table, i64 %offset
  %args_at = getelementptr i8, ptr %function_at, i64 8
  %items_at = getelementptr i8, ptr %function_at, i64 16
  %function = load ptr, ptr %function_at, align 8
  %args = load ptr, ptr %args_at, align 8
  %items = load i64, ptr %items_at, align 8
  %empty = icmp eq i64 %items, 0
  br i1 %empty, label %step_end, label %item_begin
item_begin:
  %item = phi i64 [ 0, %step ], [ %next_item, %item_begin ]
  call void %function(ptr %args, i64 %item)
  %next_item = add i64 %item, 1
  %more_items = icmp slt i64 %next_item, %items
  br i1 %more_items, label %item_begin, label %step_end
step_end:
  %next_index = add i64 %index, 1
  %more_steps = icmp slt i64 %next_index, %steps
  br i1 %more_steps, label %step, label %pass_end
pass_end:
  %next_round = add i64 %round, 1
  %more_rounds = icmp slt i64 %next_round, %repeat
  br i1 %more_rounds, label %pass, label %out
out:
  ret void
}
"""

# The fence is between opening the first step and reading the number of sleepers; its counterpart in gpmt_sleep is
# between adding to the sleepers and reading the mode. So either this thread sees the sleeper, or that one the run.
_RUN = """
define void @gpmt_run(ptr %state, ptr %table, i64 %steps, i64 %repeat) {
entry:
  %table_at = getelementptr i8, ptr %state, i64 $TABLE
  %steps_at = getelementptr i8, ptr %state, i64 $STEPS
  %repeat_at = getelementptr i8, ptr %state, i64 $REPEAT
  %sleepers_at = getelementptr i8, ptr %state, i64 $SLEEPERS
  %yield_after_at = getelementptr i8, ptr %state, i64 $YIELD_AFTER
  %yield_at = getelementptr i8, ptr %state, i64 $SCHED_YIELD
  %yield_after = load i64, ptr %yield_after_at, align 8
  %yield = load ptr, ptr %yield_at, align 8
  store ptr %table, ptr %table_at, align 8
  store i64 %steps, ptr %steps_at, align 8
  store i64 %repeat, ptr %repeat_at, align 8
  store atomic i64 $RUNNING, ptr %state monotonic, align 8
  call void @gpmt_advance(ptr %state, i64 -1)
  fence seq_cst
  %sleepers = load atomic i64, ptr %sleepers_at seq_cst, align 8
  %awake = icmp eq i64 %sleepers, 0
  br i1 %awake, label %work, label %wake
wake:
  call void @gpmt_wake(ptr %state)
  br label %work
work:
  call void @gpmt_work(ptr %state, i64 0)
  br label %wait
wait:
  %waited = phi i64 [ 0, %work ], [ %longer, %spin ], [ %longer, %yield_now ]
  %open = call i1 @gpmt_sees_work(ptr %state, i64 0, i64 %waited)
  br i1 %open, label %work, label %look
look:
  %mode = load atomic i64, ptr %state acquire, align 8
  %over = icmp eq i64 %mode, $IDLE
  br i1 %over, label %out, label %pause
pause:
  %longer = add i64 %waited, 1
  %keep_spinning = icmp slt i64 %longer, %yield_after
  br i1 %keep_spinning, label %spin, label %yield_now
spin:
  $pause
  br label %wait
yield_now:
  %ignored = call i32 %yield()
  br label %wait
out:
  ret void
}
"""

_SLEEP = """
define internal void @gpmt_wake(ptr %state) noinline {
  %mutex = getelementptr i8, ptr %state, i64 $MUTEX
  %condition = getelementptr i8, ptr %state, i64 $CONDITION
  %lock_at = getelementptr i8, ptr %state, i64 $MUTEX_LOCK
  %unlock_at = getelementptr i8, ptr %state, i64 $MUTEX_UNLOCK
  %broadcast_at = getelementptr i8, ptr %state, i64 $COND_BROADCAST
  %lock = load ptr, ptr %lock_at, align 8
  %unlock = load ptr, ptr %unlock_at, align 8
  %broadcast = load ptr, ptr %broadcast_at, align 8
  %ignored_lock = call i32 %lock(ptr %mutex)
  %ignored_broadcast = call i32 %broadcast(ptr %condition)
  %ignored_unlock = call i32 %unlock(ptr %mutex)
  ret void
}

define internal void @gpmt_sleep(ptr %state) noinline {
entry:
  %mutex = getelementptr i8, ptr %state, i64 $MUTEX
  %condition = getelementptr i8, ptr %state, i64 $CONDITION
  %sleepers_at = getelementptr i8, ptr %state, i64 $SLEEPERS
  %lock_at = getelementptr i8, ptr %state, i64 $MUTEX_LOCK
  %unlock_at = getelementptr i8, ptr %state, i64 $MUTEX_UNLOCK
  %wait_at = getelementptr i8, ptr %state, i64 $COND_WAIT
  %lock = load ptr, ptr %lock_at, align 8
  %unlock = load ptr, ptr %unlock_at, align 8
  %wait_for = load ptr, ptr %wait_at, align 8
  %ignored_lock = call i32 %lock(ptr %mutex)
  %ignored_count = atomicrmw add ptr %sleepers_at, i64 1 seq_cst, align 8
  fence seq_cst
  br label %look
look:
  %mode = load atomic i64, ptr %state seq_cst, align 8
  %idle = icmp eq i64 %mode, $IDLE
  br i1 %idle, label %wait, label %out
wait:
  %ignored_wait = call i32 %wait_for(ptr %condition, ptr %mutex)
  br label %look
out:
  %ignored_uncount = atomicrmw sub ptr %sleepers_at, i64 1 seq_cst, align 8
  %ignored_unlock = call i32 %unlock(ptr %mutex)
  ret void
}
"""

# Between runs a worker spins for some time, so that the next run finds it awake, and then sleeps; inside a run
# it only spins, and yields after a while.
_WORKER = """
define void @gpmt_worker(ptr %state, i64 %me) {
entry:
  %spins_at = getelementptr i8, ptr %state, i64 $SPINS
  %yield_after_at = getelementptr i8, ptr %state, i64 $YIELD_AFTER
  %yield_at = getelementptr i8, ptr %state, i64 $SCHED_YIELD
  %spins = load i64, ptr %spins_at, align 8
  %yield_after = load i64, ptr %yield_after_at, align 8
  %yield = load ptr, ptr %yield_at, align 8
  br label %wait
work:
  call void @gpmt_work(ptr %state, i64 %me)
  br label %wait
wait:
  %idle = phi i64 [ 0, %entry ], [ 0, %work ], [ %idle_longer, %between ],
                  [ 0, %inside ], [ 0, %yield_now ], [ 0, %sleep ]
  %waited = phi i64 [ 0, %entry ], [ 0, %work ], [ 0, %between ],
                    [ %longer, %inside ], [ %longer, %yield_now ], [ 0, %sleep ]
  $pause
  %turn = add i64 %idle, %waited
  %open = call i1 @gpmt_sees_work(ptr %state, i64 %me, i64 %turn)
  br i1 %open, label %work, label %look
look:
  %mode = load atomic i64, ptr %state acquire, align 8
  switch i64 %mode, label %inside [ i64 $IDLE, label %between
                                    i64 $STOP, label %out ]
between:
  %idle_longer = add i64 %idle, 1
  %stay = icmp slt i64 %idle_longer, %spins
  br i1 %stay, label %wait, label %sleep
sleep:
  call void @gpmt_sleep(ptr %state)
  br label %wait
inside:
  %longer = add i64 %waited, 1
  %keep_spinning = icmp slt i64 %longer, %yield_after
  br i1 %keep_spinning, label %wait, label %yield_now
yield_now:
  %ignored = call i32 %yield()
  br label %wait
out:
  ret void
}
"""

_STOP_ALL = """
define void @gpmt_stop(ptr %state) {
  store atomic i64 $STOP, ptr %state seq_cst, align 8
  call void @gpmt_wake(ptr %state)
  ret void
}
"""

_PAUSE = """
define void @gpmt_pause(i64 %count) {
entry:
  br label %spin
spin:
  %done = phi i64 [ 0, %entry ], [ %next, %spin ]
  $pause
  %next = add i64 %done, 1
  %more = icmp slt i64 %next, %count
  br i1 %more, label %spin, label %out
out:
  ret void
}
"""
