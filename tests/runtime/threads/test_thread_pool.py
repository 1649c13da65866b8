import os
import threading
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.runtime.threads.pool_kernels import KERNELS

from gpmt.errors import RuntimeProgramError
from gpmt.runtime.codegen import jit
from gpmt.runtime.threads.thread_pool import StepTable, ThreadPool, _Driver, _State, default_threads

THREADS = [1, 2, 4, 8]


@pytest.fixture(scope="module")
def kernels():
    return {name: jit.load(KERNELS, name) for name in ("count", "chain", "meet", "hold")}


@given(
    items=st.lists(st.integers(0, 40), max_size=30),
    threads=st.sampled_from(THREADS),
    repeat=st.integers(0, 4),
)
@settings(max_examples=200)
def test_every_item_is_done_exactly_once(kernels, items, threads, repeat):
    counts = [np.zeros(number + 1, np.int64) for number in items]  # one more: an item too many shows
    table = StepTable((kernels["count"], of.ctypes.data, n) for of, n in zip(counts, items, strict=True))
    ThreadPool.shared(threads).run(table, repeat)
    for of in counts:
        assert (of[:-1] == repeat).all()
        assert of[-1] == 0


@given(
    items=st.lists(st.integers(0, 20), min_size=2, max_size=40),
    threads=st.sampled_from(THREADS),
    repeat=st.integers(1, 3),
)
@settings(max_examples=200)
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
    ThreadPool.shared(threads).run(table, repeat)
    for got, want in zip(made, expected, strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("threads", THREADS)
def test_many_runs_leave_threads_and_memory_as_they_are(kernels, threads):
    counts = np.zeros(8, np.int64)
    table = StepTable([(kernels["count"], counts.ctypes.data, 8)] * 3)
    pool = ThreadPool.shared(threads)
    pool.run(table, 100)
    before, memory = threading.active_count(), _resident()
    runs = 10_000 if threads <= 2 else 1000
    for _ in range(runs):
        pool.run(table)
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
    pool = ThreadPool(threads, spin=spin)
    numbers = np.zeros(2, np.int64)
    table = StepTable([(kernels["meet"], numbers.ctypes.data, 2)])
    try:
        for pause in (0, 0, 0.003, 0.003, 0):
            time.sleep(pause)
            pool.run(table, 3)
    finally:
        pool.close()
    assert numbers.tolist() == [30, 0]


@pytest.mark.parametrize("threads", THREADS[1:])
def test_a_thread_that_is_held_in_an_item_holds_up_nothing_else(kernels, threads):
    pool, items = ThreadPool.shared(threads), 37
    for held in (0, 1, items // 2, items - 1):
        log = _log(held, items)
        pool.run(StepTable([(kernels["hold"], log.ctypes.data, items)]))
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
    # The caller of a pool of four is held in item 0, and then a single worker comes.
    log = _log(0, items)
    table = StepTable([(kernels["hold"], log.ctypes.data, items)])
    functions, state = _Driver(), _State(1e-4, 4)
    caller = threading.Thread(target=functions.run, args=(state.address, table.address, 1, 1))
    caller.start()
    while log[2] == 0:
        time.sleep(1e-4)
    worker = threading.Thread(target=functions.worker, args=(state.address, thread))
    worker.start()
    caller.join()
    functions.stop(state.address)
    worker.join()
    assert log[3] == 0
    assert log[6:].tolist() == order


def _log(held: int, items: int) -> np.ndarray:
    log = np.full(6 + items - 1, -1, np.int64)
    log[:6] = held, items - 1, 0, 0, 0, 0
    return log


def test_a_pool_of_one_does_all_in_the_calling_thread(kernels):
    before = threading.active_count()
    numbers = np.zeros(4, np.int64)
    pool = ThreadPool(1)
    pool.run(StepTable([(kernels["count"], numbers.ctypes.data, 4)]))
    pool.close()
    assert numbers.tolist() == [1] * 4
    assert threading.active_count() == before


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_callers_of_several_threads_take_turns(kernels, threads):
    pool = ThreadPool.shared(threads)
    marks = np.zeros((4, 16), np.int64)

    def call(row: int) -> None:
        table = StepTable([(kernels["count"], marks[row].ctypes.data, 16)] * 5)
        for _ in range(200):
            pool.run(table)

    callers = [threading.Thread(target=call, args=(row,)) for row in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert (marks == 1000).all()


def test_closing_ends_the_workers_and_a_run_starts_them_again(kernels):
    before = threading.active_count()
    numbers = np.zeros(2, np.int64)
    pool = ThreadPool(3)
    for round_ in range(1, 6):
        pool.run(StepTable([(kernels["meet"], numbers.ctypes.data, 2)]))
        assert threading.active_count() == before + 2
        pool.close()
        pool.close()
        assert threading.active_count() == before
        assert numbers.tolist() == [2 * round_, 0]


def test_pools_are_shared_by_their_number_of_threads():
    assert ThreadPool.shared(2) is ThreadPool.shared(2)
    assert ThreadPool.shared(3).threads == 3


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
    with pytest.raises(RuntimeProgramError, match=r"^a pool of 0 threads is not possible: choose 1 to 1024$"):
        ThreadPool(0)
    with pytest.raises(
        RuntimeProgramError, match=r"^step 1 has -1 items: give it 0 to 2147483647, or split it in two$"
    ):
        StepTable([(kernels["count"], 0, 1), (kernels["count"], 0, -1)])
    with pytest.raises(RuntimeProgramError, match=r"^step 0 has 2147483648 items"):
        StepTable([(kernels["count"], 0, 2**31)])
    with pytest.raises(RuntimeProgramError, match=r"^step 0 has no function \(address 0\)"):
        StepTable([(0, 0, 1)])
