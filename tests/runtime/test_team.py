import os
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpmt.errors import RuntimeProgramError
from gpmt.runtime import target
from gpmt.runtime.team import StepTable, Team, _Native, _State, default_threads

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
THREADS = [1, 2, 4, 8]


@pytest.fixture(scope="module")
def kernels():
    return {name: target.load(KERNELS, name) for name in ("count", "chain", "meet", "hold")}


@given(
    items=st.lists(st.integers(0, 40), max_size=30),
    threads=st.sampled_from(THREADS),
    repeat=st.integers(0, 4),
)
@settings(max_examples=200, deadline=None)
def test_every_item_is_done_exactly_once(kernels, items, threads, repeat):
    counts = [np.zeros(number + 1, np.int64) for number in items]  # one more: an item too many shows
    table = StepTable((kernels["count"], of.ctypes.data, n) for of, n in zip(counts, items, strict=True))
    Team.shared(threads).run(table, repeat)
    for of in counts:
        assert (of[:-1] == repeat).all()
        assert of[-1] == 0


@given(
    items=st.lists(st.integers(0, 20), min_size=2, max_size=40),
    threads=st.sampled_from(THREADS),
    repeat=st.integers(1, 3),
)
@settings(max_examples=200, deadline=None)
def test_a_step_sees_all_that_the_step_before_wrote(kernels, items, threads, repeat):
    # In a ring, as in a run that repeats: the first step reads what the last one of the round before wrote.
    made = [np.zeros(number, np.int64) for number in items]
    args = [
        np.array([made[at - 1].ctypes.data, len(made[at - 1]), made[at].ctypes.data], np.int64)
        for at in range(len(items))
    ]
    table = StepTable((kernels["chain"], of.ctypes.data, n) for of, n in zip(args, items, strict=True))
    expected = [np.zeros_like(of) for of in made]
    with np.errstate(over="ignore"):
        for _ in range(repeat):
            for at, number in enumerate(items):
                expected[at] = np.arange(number, dtype=np.int64) + expected[at - 1].sum(dtype=np.int64)
    Team.shared(threads).run(table, repeat)
    for got, want in zip(made, expected, strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("threads", THREADS)
def test_many_runs_leave_threads_and_memory_as_they_are(kernels, threads):
    counts = np.zeros(8, np.int64)
    table = StepTable([(kernels["count"], counts.ctypes.data, 8)] * 3)
    team = Team.shared(threads)
    team.run(table, 100)
    before, memory = threading.active_count(), _resident()
    runs = 10_000 if threads <= 2 else 1000
    for _ in range(runs):
        team.run(table)
    assert threading.active_count() == before
    assert _resident() - memory < 2**21
    assert (counts == 3 * (100 + runs)).all()


def _resident() -> int:
    if not os.path.exists("/proc/self/statm"):
        return 0
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("threads", THREADS[1:])
@pytest.mark.parametrize("spin", [0.0, 1e-3])
def test_items_run_side_by_side_whether_workers_spin_or_sleep(kernels, threads, spin):
    team = Team(threads, spin=spin)
    numbers = np.zeros(2, np.int64)
    table = StepTable([(kernels["meet"], numbers.ctypes.data, 2)])
    try:
        for pause in (0, 0, 0.003, 0.003, 0):
            time.sleep(pause)
            team.run(table, 3)
    finally:
        team.close()
    assert numbers.tolist() == [30, 0]


@pytest.mark.parametrize("threads", THREADS[1:])
def test_a_thread_that_is_held_in_an_item_holds_up_nothing_else(kernels, threads):
    team, items = Team.shared(threads), 37
    for held in (0, 1, items // 2, items - 1):
        log = _log(held, items)
        team.run(StepTable([(kernels["hold"], log.ctypes.data, items)]))
        assert log[3] == 0
        assert sorted(log[6:]) == [item for item in range(items) if item != held]


@pytest.mark.parametrize(
    ("items", "thread", "order"),
    [
        (10, 1, [3, 4, 5, 6, 7, 8, 9, 1, 2]),  # 0 1 2 | 3 4 5 | 6 7 | 8 9
        (10, 2, [6, 7, 8, 9, 1, 2, 3, 4, 5]),
        (10, 3, [8, 9, 1, 2, 3, 4, 5, 6, 7]),
        (3, 2, [2, 1]),  # 0 | 1 | 2 |
        (3, 3, [1, 2]),
        (1, 3, []),
    ],
)
def test_a_thread_begins_with_its_own_range_and_goes_on_with_those_after_it(kernels, items, thread, order):
    # The caller of a team of four is held in item 0, and then a single worker comes.
    log = _log(0, items)
    table = StepTable([(kernels["hold"], log.ctypes.data, items)])
    native, state = _Native(), _State(1e-4, 4)
    caller = threading.Thread(target=native.run, args=(state.address, table.address, 1, 1))
    caller.start()
    while log[2] == 0:
        time.sleep(1e-4)
    worker = threading.Thread(target=native.worker, args=(state.address, thread))
    worker.start()
    caller.join()
    native.stop(state.address)
    worker.join()
    assert log[3] == 0
    assert log[6:].tolist() == order


def _log(held: int, items: int) -> np.ndarray:
    log = np.full(6 + items - 1, -1, np.int64)
    log[:6] = held, items - 1, 0, 0, 0, 0
    return log


def test_a_team_of_one_does_all_in_the_calling_thread(kernels):
    before = threading.active_count()
    numbers = np.zeros(4, np.int64)
    team = Team(1)
    team.run(StepTable([(kernels["count"], numbers.ctypes.data, 4)]))
    team.close()
    assert numbers.tolist() == [1] * 4
    assert threading.active_count() == before


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_callers_of_several_threads_take_turns(kernels, threads):
    team = Team.shared(threads)
    marks = np.zeros((4, 16), np.int64)

    def call(row: int) -> None:
        table = StepTable([(kernels["count"], marks[row].ctypes.data, 16)] * 5)
        for _ in range(200):
            team.run(table)

    callers = [threading.Thread(target=call, args=(row,)) for row in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert (marks == 1000).all()


def test_closing_ends_the_workers_and_a_run_starts_them_again(kernels):
    before = threading.active_count()
    numbers = np.zeros(2, np.int64)
    team = Team(3)
    for round_ in range(1, 6):
        team.run(StepTable([(kernels["meet"], numbers.ctypes.data, 2)]))
        assert threading.active_count() == before + 2
        team.close()
        team.close()
        assert threading.active_count() == before
        assert numbers.tolist() == [2 * round_, 0]


def test_teams_are_shared_by_their_number_of_threads():
    assert Team.shared(2) is Team.shared(2)
    assert Team.shared(3).threads == 3


def test_threads_by_default_are_those_of_pytorch_within_the_processors_allowed():
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert default_threads() == 1
        torch.set_num_threads(64)
        assert default_threads() == min(64, allowed)
    finally:
        torch.set_num_threads(before)


def test_errors_name_the_value_and_the_remedy(kernels):
    with pytest.raises(RuntimeProgramError, match=r"^a team of 0 threads is not possible: choose 1 to 1024$"):
        Team(0)
    with pytest.raises(
        RuntimeProgramError, match=r"^step 1 has -1 items: give it 0 to 2147483647, or split it in two$"
    ):
        StepTable([(kernels["count"], 0, 1), (kernels["count"], 0, -1)])
    with pytest.raises(RuntimeProgramError, match=r"^step 0 has 2147483648 items"):
        StepTable([(kernels["count"], 0, 2**31)])
    with pytest.raises(RuntimeProgramError, match=r"^step 0 has no function \(address 0\)"):
        StepTable([(0, 0, 1)])


# What follows ends or forks a process: each in one of its own.
_PRELUDE = f"""
import os, signal, sys, threading, time, warnings
import numpy as np
from gpmt.runtime import target
from gpmt.runtime.team import StepTable, Team
warnings.simplefilter("ignore")
KERNELS = '''{KERNELS}'''
count, meet = target.load(KERNELS, "count"), target.load(KERNELS, "meet")
numbers = np.zeros(64, np.int64)
table = StepTable([(count, numbers.ctypes.data, 64)] * 10)
met = np.zeros(2, np.int64)
pairs = StepTable([(meet, met.ctypes.data, 2)])
team = Team.shared(2)
"""


def _script(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


def test_a_fork_has_workers_of_its_own_and_the_parent_keeps_its():
    code = """
    def child_is_well():
        child = os.fork()
        if child == 0:
            met[:] = numbers[:] = 0
            team.run(pairs, 3)
            team.run(table)
            good = met.tolist() == [6, 0] and (numbers == 10).all() and threading.active_count() == 2
            grandchild = os.fork()
            if grandchild == 0:
                met[:] = 0
                team.run(pairs)
                os._exit(0 if met.tolist() == [2, 0] else 1)
            os._exit(0 if good and os.waitstatus_to_exitcode(os.waitpid(grandchild, 0)[1]) == 0 else 1)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    assert child_is_well()  # before the first run
    team.run(pairs)
    for _ in range(10):
        assert child_is_well()
    met[:] = 0
    team.run(pairs)
    assert met.tolist() == [2, 0]
    stop = threading.Event()  # another thread is in a run, most of the time
    def busy():
        own = np.zeros(64, np.int64)
        long = StepTable([(count, own.ctypes.data, 64)] * 10)
        while not stop.is_set():
            team.run(long, 100)
    other = threading.Thread(target=busy)
    other.start()
    for _ in range(20):
        assert child_is_well()
    stop.set()
    other.join()
    met[:] = 0
    team.run(pairs)
    assert met.tolist() == [2, 0]
    print("well")
    """
    assert _script(_PRELUDE + textwrap.dedent(code)) == "well"


ENDINGS = {
    "at once": "team.run(table)",
    "asleep": "team.run(table); time.sleep(0.01)",
    "closed": "team.run(table); team.close()",
    "dropped": "Team.shared(4).run(table); del team, table, numbers",
    "first run at exit": "atexit.register(lambda: team.run(table))",
    "runs at exit": "team.run(table); atexit.register(lambda: team.run(table))",
    "runs after the workers": "team.run(table); late.append(lambda: team.run(table))",
    "daemons": "daemons(team)",
    "daemons, one thread": "daemons(Team.shared(1))",
    "daemons, many threads": "daemons(Team.shared(4))",
    "a fork": "team.run(pairs); os.fork(); team.run(pairs)",
    "an error": "team.run(table); raise ValueError",
}


def test_the_interpreter_ends_promptly():
    # Each case in a fork, which ends as a script does; `late` runs after the team's own function at exit.
    before = "import atexit; late = []; atexit.register(lambda: [run() for run in late])\n"
    code = f"""
    def daemons(of):
        def busy():
            while True:
                of.run(table, 20)
        for _ in range(2):
            threading.Thread(target=busy, daemon=True).start()
        time.sleep(0.05)

    for name, ending in {ENDINGS!r}.items():
        begun = time.monotonic()
        child = os.fork()
        if child == 0:
            if name == "an error":
                os.close(2)
            exec(ending)
            sys.exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        took = time.monotonic() - begun
        if code != (name == "an error") or took > 2:
            print(name, code, took)
    print("all")
    """
    assert _script(before + _PRELUDE + textwrap.dedent(code)) == "all"


def test_an_interrupt_leaves_the_team_usable():
    code = """
    def interrupt():
        for _ in range(200):
            time.sleep(0.001)
            os.kill(os.getpid(), signal.SIGINT)
    other = threading.Thread(target=interrupt, daemon=True)
    seen, calls = 0, 0
    while calls == 0 or other.is_alive():
        try:
            if other.ident is None:
                other.start()
            calls += 1
            team.run(table, 50)
            if calls % 3 == 0:
                team.close()
        except KeyboardInterrupt:
            seen += 1
    assert seen > 5
    met[:] = numbers[:] = 0
    team.run(pairs)
    team.run(table)
    assert met.tolist() == [2, 0] and (numbers == 10).all()
    team.close()
    assert threading.active_count() <= 2  # a worker may have got lost between being started and being known
    print("well")
    """
    assert _script(_PRELUDE + textwrap.dedent(code)) == "well"


def test_a_signal_handler_may_run_a_table_in_the_middle_of_a_run():
    code = """
    runs = 0
    def handler(*_):
        global runs
        runs += 1
        team.run(table)
    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    own = np.zeros(64, np.int64)
    other = StepTable([(count, own.ctypes.data, 64)])
    end = time.monotonic() + 0.3
    calls = 0
    while time.monotonic() < end:
        team.run(other)
        calls += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert runs > 20
    assert (own == calls).all() and (numbers == 10 * runs).all()
    print("well")
    """
    assert _script(_PRELUDE + textwrap.dedent(code)) == "well"
