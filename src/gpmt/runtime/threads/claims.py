"""How threads share the items of a step: LLVM IR for opening a step, claiming and doing items, and looking for some.

Thread k of T takes items from the beginning of the k-th of T ranges, and goes on to the ranges of the threads after
it when none are left. Ranges are claimed through their *cursors*, see driver.py.

No claim is lost or made twice. A step ends when all its items are done, so by then all cursors are closed. The
thread that opens the next step stores only cursors that have items, and that step cannot end before it has
stored the last one: cursors are stored while they are closed, and by one thread at a time. An addition
before the store claims nothing; one after it claims an item of the new step, even if the thread looked at the cursor
before. Neither can be mistaken for the other: the value found gives the step, and with the thread of the cursor the
item. A step with an item that is claimed and not reported stays open.
"""

from __future__ import annotations

# The first item of thread k's range; the first items % threads ranges have one item more than the others.
_RANGES = """
define internal i64 @gpmt_first(i64 %thread, i64 %items, i64 %threads) alwaysinline {
  %items_32 = trunc i64 %items to i32
  %threads_32 = trunc i64 %threads to i32
  %share_32 = udiv i32 %items_32, %threads_32
  %rest_32 = urem i32 %items_32, %threads_32
  %share = zext i32 %share_32 to i64
  %rest = zext i32 %rest_32 to i64
  %shares = mul i64 %thread, %share
  %before = icmp ult i64 %thread, %rest
  %more = select i1 %before, i64 %thread, i64 %rest
  %first = add i64 %shares, %more
  ret i64 %first
}

define internal i64 @gpmt_after(i64 %me, i64 %far, i64 %threads) alwaysinline {
  %thread = add i64 %me, %far
  %wrapped = sub i64 %thread, %threads
  %inside = icmp ult i64 %thread, %threads
  %whose = select i1 %inside, i64 %thread, i64 %wrapped
  ret i64 %whose
}

define internal ptr @gpmt_cursor(ptr %state, i64 %thread) alwaysinline {
  %cursors = getelementptr i8, ptr %state, i64 $CURSORS
  %at = getelementptr i64, ptr %cursors, i64 %thread
  ret ptr %at
}

define internal i1 @gpmt_is_open(ptr %at) alwaysinline {
  %cursor = load atomic i64, ptr %at monotonic, align 8
  %bit = and i64 %cursor, $BIT
  %open = icmp eq i64 %bit, 0
  ret i1 %open
}
"""

# Open the first step after %index that has items, or end the run. Only one thread at a time does this: the one that
# begins the run, or the one that has ended the last item of a step. Ranges without items are the last ones.
_ADVANCE = """
define internal void @gpmt_advance(ptr %state, i64 %index) {
entry:
  %table_at = getelementptr i8, ptr %state, i64 $TABLE
  %steps_at = getelementptr i8, ptr %state, i64 $STEPS
  %repeat_at = getelementptr i8, ptr %state, i64 $REPEAT
  %threads_at = getelementptr i8, ptr %state, i64 $THREADS
  %done_at = getelementptr i8, ptr %state, i64 $DONE
  %table = load ptr, ptr %table_at, align 8
  %steps = load i64, ptr %steps_at, align 8
  %threads = load i64, ptr %threads_at, align 8
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
  %few = icmp slt i64 %items, %threads
  %ranges = select i1 %few, i64 %items, i64 %threads
  %high = shl i64 %here, 32
  %closed = or i64 %high, $BIT
  br label %range
range:
  %thread = phi i64 [ 0, %open ], [ %thread_next, %range ]
  %thread_next = add i64 %thread, 1
  %first = call i64 @gpmt_first(i64 %thread, i64 %items, i64 %threads)
  %stop = call i64 @gpmt_first(i64 %thread_next, i64 %items, i64 %threads)
  %count = sub i64 %stop, %first
  %cursor = sub i64 %closed, %count
  %at = call ptr @gpmt_cursor(ptr %state, i64 %thread)
  store atomic i64 %cursor, ptr %at release, align 8
  %more = icmp slt i64 %thread_next, %ranges
  br i1 %more, label %range, label %out
end:
  store atomic i64 $IDLE, ptr %state release, align 8
  br label %out
out:
  ret void
}
"""

# Do items, first those of the thread's own range, until none can be claimed. Items are reported together; all of one
# report are of one step. A cursor is read before the first claim of a range, since most ranges of other threads are
# closed by then.
_WORK = """
define internal void @gpmt_work(ptr %state, i64 %me) {
entry:
  %table_at = getelementptr i8, ptr %state, i64 $TABLE
  %threads_at = getelementptr i8, ptr %state, i64 $THREADS
  %done_at = getelementptr i8, ptr %state, i64 $DONE
  %threads = load i64, ptr %threads_at, align 8
  br label %look
look:
  %far = phi i64 [ 0, %entry ], [ %farther, %next ], [ 0, %open_next ]
  %mine = phi i64 [ 0, %entry ], [ %mine_then, %next ], [ 0, %open_next ]
  %index = phi i64 [ 0, %entry ], [ %index_then, %next ], [ 0, %open_next ]
  %items = phi i64 [ 0, %entry ], [ %items_then, %next ], [ 0, %open_next ]
  %whose = call i64 @gpmt_after(i64 %me, i64 %far, i64 %threads)
  %whose_next = add i64 %whose, 1
  %at = call ptr @gpmt_cursor(ptr %state, i64 %whose)
  %open = call i1 @gpmt_is_open(ptr %at)
  br i1 %open, label %claim, label %next
claim:
  %mine_before = phi i64 [ %mine, %look ], [ %mine_now, %do ]
  %index_before = phi i64 [ %index, %look ], [ %index_now, %do ]
  %items_before = phi i64 [ %items, %look ], [ %items_now, %do ]
  %cursor = atomicrmw add ptr %at, i64 1 acq_rel, align 8
  %bit = and i64 %cursor, $BIT
  %closed = icmp ne i64 %bit, 0
  br i1 %closed, label %next, label %do
do:
  %index_now = lshr i64 %cursor, 32
  %table = load ptr, ptr %table_at, align 8
  %offset = mul i64 %index_now, $STEP_BYTES
  %function_at = getelementptr i8, ptr %table, i64 %offset
  %args_at = getelementptr i8, ptr %function_at, i64 8
  %items_at = getelementptr i8, ptr %function_at, i64 16
  %function = load ptr, ptr %function_at, align 8
  %args = load ptr, ptr %args_at, align 8
  %items_now = load i64, ptr %items_at, align 8
  %stop = call i64 @gpmt_first(i64 %whose_next, i64 %items_now, i64 %threads)
  %low = and i64 %cursor, 4294967295
  %left = sub i64 $BIT, %low
  %item = sub i64 %stop, %left
  call void %function(ptr %args, i64 %item)
  %mine_now = add i64 %mine_before, 1
  %was_last = icmp eq i64 %left, 1
  br i1 %was_last, label %range_end, label %claim
range_end:
  %all_mine = icmp eq i64 %mine_now, %items_now
  br i1 %all_mine, label %open_next, label %next
next:
  %mine_then = phi i64 [ %mine, %look ], [ %mine_before, %claim ], [ %mine_now, %range_end ]
  %index_then = phi i64 [ %index, %look ], [ %index_before, %claim ], [ %index_now, %range_end ]
  %items_then = phi i64 [ %items, %look ], [ %items_before, %claim ], [ %items_now, %range_end ]
  %farther = add i64 %far, 1
  %others = icmp ult i64 %farther, %threads
  br i1 %others, label %look, label %finish
finish:
  %nothing = icmp eq i64 %mine_then, 0
  br i1 %nothing, label %out, label %report
report:
  %reported = atomicrmw add ptr %done_at, i64 %mine_then acq_rel, align 8
  %done = add i64 %reported, %mine_then
  %complete = icmp eq i64 %done, %items_then
  br i1 %complete, label %open_next, label %out
open_next:
  %ended = phi i64 [ %index_now, %range_end ], [ %index_then, %report ]
  call void @gpmt_advance(ptr %state, i64 %ended)
  br label %look
out:
  ret void
}
"""

# Whether to stop waiting: because the thread's own range is open, or another's, each of which is read less often.
# A thread that sees a step being opened would otherwise begin with the range of a thread that is about to start.
_SEES_WORK = """
define internal i1 @gpmt_sees_work(ptr %state, i64 %me, i64 %turn) alwaysinline {
  %threads_at = getelementptr i8, ptr %state, i64 $THREADS
  %threads = load i64, ptr %threads_at, align 8
  %turn_32 = trunc i64 %turn to i32
  %threads_32 = trunc i64 %threads to i32
  %far_32 = urem i32 %turn_32, %threads_32
  %far = zext i32 %far_32 to i64
  %whose = call i64 @gpmt_after(i64 %me, i64 %far, i64 %threads)
  %own_at = call ptr @gpmt_cursor(ptr %state, i64 %me)
  %other_at = call ptr @gpmt_cursor(ptr %state, i64 %whose)
  %own = call i1 @gpmt_is_open(ptr %own_at)
  %other = call i1 @gpmt_is_open(ptr %other_at)
  %open = or i1 %own, %other
  ret i1 %open
}
"""

CLAIMS = "\n".join((_RANGES, _ADVANCE, _WORK, _SEES_WORK))
