"""Kernels in LLVM IR that tell in which order, how often and side by side with what they were called."""

# count: numbers[item] += 1, atomically. chain: into[item] = sum(from[:length]) + item. meet: wait, for as long as a
# second at most, until both items of the step have begun; what is left to wait is added up at [1].
# hold: write items down in the order in which they are begun, from [6] on; but one item, [0], says at [2]
# that it has begun and waits, for as long as ten seconds, until [1] others are done; if in vain, [3] becomes 1.
KERNELS = """
define void @count(ptr %numbers, i64 %item) {
  %at = getelementptr i64, ptr %numbers, i64 %item
  %ignored = atomicrmw add ptr %at, i64 1 monotonic, align 8
  ret void
}

define void @chain(ptr %args, i64 %item) {
entry:
  %length_at = getelementptr i64, ptr %args, i64 1
  %into_at = getelementptr i64, ptr %args, i64 2
  %from = load ptr, ptr %args, align 8
  %length = load i64, ptr %length_at, align 8
  %into = load ptr, ptr %into_at, align 8
  br label %look
look:
  %index = phi i64 [ 0, %entry ], [ %next, %add ]
  %sum = phi i64 [ %item, %entry ], [ %more, %add ]
  %inside = icmp slt i64 %index, %length
  br i1 %inside, label %add, label %out
add:
  %at = getelementptr i64, ptr %from, i64 %index
  %number = load i64, ptr %at, align 8
  %more = add i64 %sum, %number
  %next = add i64 %index, 1
  br label %look
out:
  %into_item = getelementptr i64, ptr %into, i64 %item
  store i64 %sum, ptr %into_item, align 8
  ret void
}

declare i32 @usleep(i32)

define void @meet(ptr %numbers, i64 %item) {
entry:
  %waited_at = getelementptr i64, ptr %numbers, i64 1
  %before = atomicrmw add ptr %numbers, i64 1 acq_rel, align 8
  %pair = and i64 %before, -2
  %wanted = add i64 %pair, 2
  br label %look
look:
  %tries = phi i64 [ 0, %entry ], [ %next, %wait ]
  %here = load atomic i64, ptr %numbers acquire, align 8
  %met = icmp sge i64 %here, %wanted
  br i1 %met, label %out, label %patience
patience:
  %next = add i64 %tries, 1
  %tired = icmp sgt i64 %next, 10000
  br i1 %tired, label %alone, label %wait
wait:
  %ignored = call i32 @usleep(i32 100)
  br label %look
alone:
  %ignored_alone = atomicrmw add ptr %waited_at, i64 1 monotonic, align 8
  br label %out
out:
  ret void
}

define void @hold(ptr %log, i64 %item) {
entry:
  %others_at = getelementptr i64, ptr %log, i64 1
  %begun_at = getelementptr i64, ptr %log, i64 2
  %tired_at = getelementptr i64, ptr %log, i64 3
  %place_at = getelementptr i64, ptr %log, i64 4
  %done_at = getelementptr i64, ptr %log, i64 5
  %places = getelementptr i64, ptr %log, i64 6
  %held = load i64, ptr %log, align 8
  %others = load i64, ptr %others_at, align 8
  %hold = icmp eq i64 %item, %held
  br i1 %hold, label %begin, label %other
other:
  %place = atomicrmw add ptr %place_at, i64 1 monotonic, align 8
  %at = getelementptr i64, ptr %places, i64 %place
  store i64 %item, ptr %at, align 8
  %ignored_done = atomicrmw add ptr %done_at, i64 1 acq_rel, align 8
  br label %out
begin:
  store atomic i64 1, ptr %begun_at release, align 8
  br label %look
look:
  %tries = phi i64 [ 0, %begin ], [ %next, %wait ]
  %done = load atomic i64, ptr %done_at acquire, align 8
  %all = icmp sge i64 %done, %others
  br i1 %all, label %out, label %patience
patience:
  %next = add i64 %tries, 1
  %over = icmp sgt i64 %next, 100000
  br i1 %over, label %tired, label %wait
wait:
  %ignored = call i32 @usleep(i32 100)
  br label %look
tired:
  store i64 1, ptr %tired_at, align 8
  br label %out
out:
  ret void
}
"""
