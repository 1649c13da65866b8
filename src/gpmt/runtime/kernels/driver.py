"""The native loop that runs a table of steps: LLVM IR for the caller, for its workers and for one thread alone.

A step is 32 bytes: function `void(int64* args, int64 item)`, args, items, and a word kept for flags. The threads
share one word, the *cursor*: step index in the high 32 bits, and in the low 32 bits a count that begins at
`2**31 - items`. Adding one claims an item as long as bit 31 was clear; a set bit means that nothing is left. Who
ends the last item of a step opens the next one by storing a new cursor; nobody waits for a thread that holds no
item. So one that sleeps, or that the system has put aside, holds nobody up, and a table needs no counters of its own.
A thread touches the table only while it holds an item, and that step cannot end before: the table may be freed
as soon as a run has returned. Two values of the high half are no step, IDLE and STOP: what workers do between runs.
"""

from __future__ import annotations

STEP_WORDS = 4
MAX_ITEMS = 2**31 - 1
IDLE_CURSOR = 0xFFFFFFFF_80000000

# Byte offsets in a team's state. What different threads write lies 128 bytes apart: two cache lines of x86, which
# fetches them in pairs, or one of Apple's.
CURSOR = 0
DONE = 128  # items of the open step that are done and reported
SLEEPERS = 256  # workers inside the mutex, or waiting for the condition
TABLE, STEPS, REPEAT = 384, 392, 400  # the job
SPINS, YIELD_AFTER = 512, 520  # pauses before an idle worker sleeps; before one waiting in a run yields
SCHED_YIELD, MUTEX_LOCK, MUTEX_UNLOCK, COND_WAIT, COND_BROADCAST = 528, 536, 544, 552, 560  # addresses
MUTEX, CONDITION = 640, 896  # 256 bytes each, more than any system's
STATE_BYTES = 1152

FUNCTIONS = ("gpmt_alone", "gpmt_run", "gpmt_worker", "gpmt_stop", "gpmt_pause")

_BIT = 2**31
_IDLE = IDLE_CURSOR >> 32
_STOP = _IDLE - 1
_PAUSES = {
    "x86_64": ("declare void @llvm.x86.sse2.pause()", "call void @llvm.x86.sse2.pause()"),
    "aarch64": ("declare void @llvm.aarch64.hint(i32)", "call void @llvm.aarch64.hint(i32 1)"),
}
_PAUSES["arm64"] = _PAUSES["aarch64"]


def driver_ir(triple: str) -> str:
    """Return the module of the native loop for a target triple, such as "x86_64-unknown-linux-gnu".

    Its functions (addresses are those of a team's state and of a table of steps):

    * `gpmt_alone(table, steps, repeat)`: run a table in this thread, without any state;
    * `gpmt_run(state, table, steps, repeat)`: run it with whatever workers come; returns when all is done;
    * `gpmt_worker(state)`: take part in runs until `gpmt_stop(state)`, which must not meet a run;
    * `gpmt_pause(count)`: the pause of the waiting loops, to time it.
    """
    declaration, pause = _PAUSES.get(triple.partition("-")[0], ("", ""))
    text = "\n".join((_ALONE, _ADVANCE, _WORK, _RUN, _SLEEP, _WORKER, _STOP_ALL, _PAUSE))
    names = {
        "CURSOR": CURSOR, "DONE": DONE, "SLEEPERS": SLEEPERS, "TABLE": TABLE, "STEPS": STEPS, "REPEAT": REPEAT,
        "SPINS": SPINS, "YIELD_AFTER": YIELD_AFTER, "SCHED_YIELD": SCHED_YIELD, "MUTEX_LOCK": MUTEX_LOCK,
        "MUTEX_UNLOCK": MUTEX_UNLOCK, "COND_WAIT": COND_WAIT, "COND_BROADCAST": COND_BROADCAST, "MUTEX": MUTEX,
        "CONDITION": CONDITION, "STEP_BYTES": 8 * STEP_WORDS, "BIT": _BIT, "IDLE": _IDLE, "STOP": _STOP,
        "IDLE_CURSOR": IDLE_CURSOR - 2**64, "STOP_CURSOR": (_STOP << 32 | _BIT) - 2**64,
    }  # fmt: skip
    for name in sorted(names, key=len, reverse=True):
        text = text.replace(f"${name}", str(names[name]))
    return f"{declaration}\n{text.replace('$pause', pause)}"


_ALONE = """
define void @gpmt_alone(ptr %table, i64 %steps, i64 %repeat) {
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

# Open the first step after %index that has items, or end the run. Only one thread can be here: the one that begins
# the run, or the one that has ended the last item of a step.
_ADVANCE = """
define internal void @gpmt_advance(ptr %state, i64 %index) {
entry:
  %table_at = getelementptr i8, ptr %state, i64 $TABLE
  %steps_at = getelementptr i8, ptr %state, i64 $STEPS
  %repeat_at = getelementptr i8, ptr %state, i64 $REPEAT
  %done_at = getelementptr i8, ptr %state, i64 $DONE
  %table = load ptr, ptr %table_at, align 8
  %steps = load i64, ptr %steps_at, align 8
  br label %next
next:
  %before = phi i64 [ %index, %entry ], [ %here, %look ], [ -1, %pass_end ]
  %here = add i64 %before, 1
  %over = icmp eq i64 %here, %steps
  br i1 %over, label %pass_end, label %look
look:
  %offset = mul i64 %here, $STEP_BYTES
  %step = getelementptr i8, ptr %table, i64 %offset
  %items_at = getelementptr i8, ptr %step, i64 16
  %items = load i64, ptr %items_at, align 8
  %empty = icmp eq i64 %items, 0
  br i1 %empty, label %next, label %open
pass_end:
  %left = load i64, ptr %repeat_at, align 8
  %fewer = sub i64 %left, 1
  store i64 %fewer, ptr %repeat_at, align 8
  %again = icmp sgt i64 %fewer, 0
  br i1 %again, label %next, label %end
open:
  store atomic i64 0, ptr %done_at monotonic, align 8
  %first = sub i64 $BIT, %items
  %high = shl i64 %here, 32
  %cursor = or i64 %high, %first
  store atomic i64 %cursor, ptr %state release, align 8
  ret void
end:
  store atomic i64 $IDLE_CURSOR, ptr %state release, align 8
  ret void
}
"""

# Do items until none can be claimed. Losing a claim to a store of the cursor is harmless: only a claim that found
# nothing can meet one, since a step with an unfinished item stays open.
_WORK = """
define internal void @gpmt_work(ptr %state) {
entry:
  %table_at = getelementptr i8, ptr %state, i64 $TABLE
  %done_at = getelementptr i8, ptr %state, i64 $DONE
  br label %claim
claim:
  %cursor = atomicrmw add ptr %state, i64 1 acq_rel, align 8
  %bit = and i64 %cursor, $BIT
  %closed = icmp ne i64 %bit, 0
  br i1 %closed, label %out, label %begin
begin:
  %index = lshr i64 %cursor, 32
  %table = load ptr, ptr %table_at, align 8
  %offset = mul i64 %index, $STEP_BYTES
  %function_at = getelementptr i8, ptr %table, i64 %offset
  %args_at = getelementptr i8, ptr %function_at, i64 8
  %items_at = getelementptr i8, ptr %function_at, i64 16
  %function = load ptr, ptr %function_at, align 8
  %args = load ptr, ptr %args_at, align 8
  %items = load i64, ptr %items_at, align 8
  %first = sub i64 $BIT, %items
  br label %do
do:
  %claimed = phi i64 [ %cursor, %begin ], [ %cursor_again, %try ]
  %mine = phi i64 [ 1, %begin ], [ %mine_next, %try ]
  %low = and i64 %claimed, 4294967295
  %item = sub i64 %low, %first
  call void %function(ptr %args, i64 %item)
  %item_next = add i64 %item, 1
  %was_last = icmp eq i64 %item_next, %items
  br i1 %was_last, label %finish, label %try
try:
  %cursor_again = atomicrmw add ptr %state, i64 1 acq_rel, align 8
  %bit_again = and i64 %cursor_again, $BIT
  %closed_again = icmp ne i64 %bit_again, 0
  %mine_next = add i64 %mine, 1
  br i1 %closed_again, label %finish, label %do
finish:
  %all_mine = icmp eq i64 %mine, %items
  br i1 %all_mine, label %open_next, label %report
report:
  %before = atomicrmw add ptr %done_at, i64 %mine acq_rel, align 8
  %done = add i64 %before, %mine
  %complete = icmp eq i64 %done, %items
  br i1 %complete, label %open_next, label %out
open_next:
  call void @gpmt_advance(ptr %state, i64 %index)
  br label %claim
out:
  ret void
}
"""

# The fence stands between opening the first step and looking for sleepers, its counterpart in gpmt_sleep between
# counting oneself a sleeper and looking at the cursor: one of the two sees the other.
_RUN = """
define void @gpmt_run(ptr %state, ptr %table, i64 %steps, i64 %repeat) {
entry:
  %table_at = getelementptr i8, ptr %state, i64 $TABLE
  %steps_at = getelementptr i8, ptr %state, i64 $STEPS
  %repeat_at = getelementptr i8, ptr %state, i64 $REPEAT
  %sleepers_at = getelementptr i8, ptr %state, i64 $SLEEPERS
  %patience_at = getelementptr i8, ptr %state, i64 $YIELD_AFTER
  %yield_at = getelementptr i8, ptr %state, i64 $SCHED_YIELD
  %patience = load i64, ptr %patience_at, align 8
  %yield = load ptr, ptr %yield_at, align 8
  store ptr %table, ptr %table_at, align 8
  store i64 %steps, ptr %steps_at, align 8
  store i64 %repeat, ptr %repeat_at, align 8
  call void @gpmt_advance(ptr %state, i64 -1)
  fence seq_cst
  %sleepers = load atomic i64, ptr %sleepers_at seq_cst, align 8
  %awake = icmp eq i64 %sleepers, 0
  br i1 %awake, label %work, label %wake
wake:
  call void @gpmt_wake(ptr %state)
  br label %work
work:
  call void @gpmt_work(ptr %state)
  br label %wait
wait:
  %waited = phi i64 [ 0, %work ], [ %longer, %spin ], [ %longer, %give_way ]
  %cursor = load atomic i64, ptr %state acquire, align 8
  %bit = and i64 %cursor, $BIT
  %open = icmp eq i64 %bit, 0
  br i1 %open, label %work, label %look
look:
  %high = lshr i64 %cursor, 32
  %over = icmp eq i64 %high, $IDLE
  br i1 %over, label %out, label %pause
pause:
  %longer = add i64 %waited, 1
  %patient = icmp slt i64 %longer, %patience
  br i1 %patient, label %spin, label %give_way
spin:
  $pause
  br label %wait
give_way:
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
  %cursor = load atomic i64, ptr %state seq_cst, align 8
  %high = lshr i64 %cursor, 32
  %idle = icmp eq i64 %high, $IDLE
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

# Between runs a worker spins for some time, for the next run to find it awake, and then sleeps; inside a run
# it only spins, and yields after a while.
_WORKER = """
define void @gpmt_worker(ptr %state) {
entry:
  %spins_at = getelementptr i8, ptr %state, i64 $SPINS
  %patience_at = getelementptr i8, ptr %state, i64 $YIELD_AFTER
  %yield_at = getelementptr i8, ptr %state, i64 $SCHED_YIELD
  %spins = load i64, ptr %spins_at, align 8
  %patience = load i64, ptr %patience_at, align 8
  %yield = load ptr, ptr %yield_at, align 8
  br label %wait
work:
  call void @gpmt_work(ptr %state)
  br label %wait
wait:
  %idle = phi i64 [ 0, %entry ], [ 0, %work ], [ %idle_longer, %between ],
                  [ 0, %inside ], [ 0, %give_way ], [ 0, %sleep ]
  %waited = phi i64 [ 0, %entry ], [ 0, %work ], [ 0, %between ],
                    [ %longer, %inside ], [ %longer, %give_way ], [ 0, %sleep ]
  $pause
  %cursor = load atomic i64, ptr %state acquire, align 8
  %bit = and i64 %cursor, $BIT
  %open = icmp eq i64 %bit, 0
  br i1 %open, label %work, label %look
look:
  %high = lshr i64 %cursor, 32
  switch i64 %high, label %inside [ i64 $IDLE, label %between
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
  %patient = icmp slt i64 %longer, %patience
  br i1 %patient, label %wait, label %give_way
give_way:
  %ignored = call i32 %yield()
  br label %wait
out:
  ret void
}
"""

_STOP_ALL = """
define void @gpmt_stop(ptr %state) {
  store atomic i64 $STOP_CURSOR, ptr %state seq_cst, align 8
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
