"""Threads that run a table of native steps in one call, without the GIL."""

from __future__ import annotations

import atexit
import ctypes
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import numpy as np

from gpmt.errors import RuntimeProgramError
from gpmt.runtime.codegen import jit, processor
from gpmt.runtime.threads import driver
from gpmt.system import core_count

_MAX_THREADS = 1024

Row = tuple[int, int, int, int]
"""A step of a table: function, arguments, items, and bytes to the arguments for the next sample."""


def default_threads() -> int:
    """Return the threads to use: as many as PyTorch does, but at most one for each core of this process.

    One thread where there are no POSIX threads.

    >>> default_threads() >= 1
    True
    """
    import torch  # takes seconds, and nothing else here needs it

    if os.name != "posix":
        return 1
    return max(1, min(torch.get_num_threads(), core_count()))


class StepTable:
    """Steps for `ThreadPool.run`.

    A step calls the function `void(int64* args, int64 item)` once for each item from 0 to items - 1, in any order, in
    several threads at once. The next step begins when all items are done. What the addresses point to must live
    as long as the table is run. A table is only read, and may be run by several pools.

    Args:
        steps: (function, args, items): two addresses, and the number of items; also as a `Row`, whose last field is
            for loops over samples.

    Raises:
        RuntimeProgramError: a number of items that is negative or above 2**31 - 1, or a function at address 0.
    """

    def __init__(self, steps: Iterable[tuple[int, int, int] | Row]) -> None:
        rows = [step if len(step) == 4 else (*step, 0) for step in steps]
        for index, (function, _, items, _) in enumerate(rows):
            if not 0 <= items <= driver.MAX_ITEMS:
                raise RuntimeProgramError(
                    f"step {index} has {items} items: give it 0 to {driver.MAX_ITEMS}, or split it in two"
                )
            if function == 0:
                raise RuntimeProgramError(
                    f"step {index} has no function (address 0): give it a compiled kernel's"
                )
        self.array = np.array(rows, np.int64).reshape(-1, driver.STEP_WORDS)
        self.address = int(self.array.ctypes.data)

    def __len__(self) -> int:
        return len(self.array)


class ThreadPool:
    """The caller's thread and persistent worker threads, which do the items of each step together.

    Each thread first does its own part of a step's items, the same part in all steps, and then helps the others.
    Workers start at the first run, wait for the next one by spinning for `spin` seconds, and then sleep. A run
    returns when all is done, whether workers came in time or not. Calls from several Python threads take turns,
    except for a pool of one thread, which shares nothing. After `os.fork` the child starts its own workers.
    Programs share pools through `ThreadPool.shared`.

    Args:
        threads: the caller's included.
        spin: seconds.

    Raises:
        RuntimeProgramError: a number of threads outside 1 to 1024, or a system without POSIX threads.
    """

    def __init__(self, threads: int, *, spin: float = 1e-4) -> None:
        if not 1 <= threads <= _MAX_THREADS:
            raise RuntimeProgramError(
                f"a pool of {threads} threads is not possible: choose 1 to {_MAX_THREADS}"
            )
        if threads > 1 and os.name != "posix":
            raise RuntimeProgramError(
                f"a pool of {threads} threads needs POSIX threads, which {os.name!r} does not have: choose 1 thread"
            )
        self.threads = threads
        self._spin = spin
        self._driver = _Driver()
        self._state = _State(spin, threads) if threads > 1 else None
        self._workers: list[threading.Thread] = []
        self._ready = False  # all workers have started
        self._starting_or_stopping = threading.Lock()
        self._lock = threading.RLock()  # a signal handler may run a program between two bytecodes of a run
        with _registry_lock:
            _pools.add(self)

    @staticmethod
    def shared(threads: int) -> ThreadPool:
        """Return this process's pool of a number of threads."""
        with _registry_lock:
            if threads not in _shared_pools:
                _shared_pools[threads] = ThreadPool(threads)
            return _shared_pools[threads]

    def run(self, table: StepTable, repeat: int = 1) -> None:
        """Run all steps of a table in their order, `repeat` times.

        Raises:
            RuntimeProgramError: the system does not let the workers start.
        """
        if repeat < 1:
            return
        if self._state is None:
            self._driver.run_alone(table.address, len(table), repeat)
            return
        with self._lock:
            if self._starting_or_stopping.locked():
                # This is a signal handler that interrupted a start; starting again could recurse without end.
                self._driver.run_alone(table.address, len(table), repeat)
                return
            if not self._ready:
                self._start_or_stop(self._start_workers, self._state)
            self._driver.run(self._state.address, table.address, len(table), repeat)

    @property
    def run_alone_address(self) -> int:
        """The address of `void(int64* table, int64 steps, int64 repeat)`, which runs a table without workers."""
        return ctypes.cast(self._driver.run_alone, ctypes.c_void_p).value or 0

    def close(self) -> None:
        """Stop the workers, after the run that they are in; the next run starts new ones."""
        if self._state is not None:
            with self._lock:
                self._start_or_stop(self._stop_workers, self._state)

    def _start_or_stop(self, action: Callable[[_State], None], state: _State) -> None:
        if self._starting_or_stopping.locked():  # in a signal handler, as in `run`
            action(state)
            return
        with self._starting_or_stopping:  # released by an interrupt too, unlike a flag in try and finally
            action(state)

    def _start_workers(self, state: _State) -> None:
        self._stop_workers(state)  # those that an interrupted start or stop has left
        # An interpreter that exits starts no more threads; the caller then does all items itself.
        if _exiting or not threading.main_thread().is_alive():
            return
        _started_pools.add(self)
        try:
            for index in range(1, self.threads):
                name = f"gpmt-{self.threads}-{index}"
                worker = threading.Thread(
                    target=self._run_worker, args=(state, index), name=name, daemon=True
                )
                self._workers.append(worker)
                worker.start()
        except RuntimeError as error:
            self._stop_workers(state)
            raise RuntimeProgramError(
                f"a pool of {self.threads} threads could not start ({error}): choose fewer threads"
            ) from error
        self._ready = True

    def _stop_workers(self, state: _State) -> None:
        self._ready = False
        if self._workers:
            self._driver.stop(state.address)
            for worker in self._workers:
                if worker.ident is not None:  # it has started
                    worker.join()
            self._workers = []
        state.set_idle()
        _started_pools.discard(self)

    def _run_worker(self, state: _State, index: int) -> None:
        self._driver.worker(state.address, index)  # this frame keeps the state's memory alive

    def _reset_after_fork(self) -> None:
        """Forget, in the child of a fork, the workers and callers that only the parent has."""
        self._lock = threading.RLock()
        self._workers = []
        self._ready = False
        self._starting_or_stopping = threading.Lock()
        if self._state is not None:
            self._state.reset(self._spin)


class _Driver:
    """The functions of driver.py; all release the GIL."""

    def __init__(self) -> None:
        ir = driver.driver_ir(processor.host().triple)
        address, number = ctypes.c_void_p, ctypes.c_int64
        self.run_alone = _function(ir, "gpmt_run_alone", address, number, number)
        self.run = _function(ir, "gpmt_run", address, address, number, number)
        self.worker = _function(ir, "gpmt_worker", address, number)
        self.stop = _function(ir, "gpmt_stop", address)
        self.pause = _function(ir, "gpmt_pause", number)


def _function(ir: str, name: str, *arguments: Any) -> Any:
    return ctypes.CFUNCTYPE(None, *arguments)(jit.load(ir, name))


class _State:
    """The memory that a pool's threads share, see driver.py."""

    def __init__(self, spin: float, threads: int) -> None:
        self._threads = threads
        self._memory = ctypes.create_string_buffer(driver.state_bytes(threads) + 127)
        self.address = (ctypes.addressof(self._memory) + 127) // 128 * 128
        self.reset(spin)

    def reset(self, spin: float) -> None:
        """Initialise it; no thread may be using it."""
        ctypes.memset(self.address, 0, driver.state_bytes(self._threads))
        process = ctypes.CDLL(None)
        for offset, name in (
            (driver.SCHED_YIELD, "sched_yield"),
            (driver.MUTEX_LOCK, "pthread_mutex_lock"),
            (driver.MUTEX_UNLOCK, "pthread_mutex_unlock"),
            (driver.COND_WAIT, "pthread_cond_wait"),
            (driver.COND_BROADCAST, "pthread_cond_broadcast"),
        ):
            self._put(offset, ctypes.cast(process[name], ctypes.c_void_p).value or 0)
        process.pthread_mutex_init(ctypes.c_void_p(self.address + driver.MUTEX), None)
        process.pthread_cond_init(ctypes.c_void_p(self.address + driver.CONDITION), None)
        pause = _pause_seconds()
        self._put(driver.SPINS, max(1, int(spin / pause)))
        self._put(driver.YIELD_AFTER, max(1, int(_YIELD_AFTER / pause)))
        self._put(driver.THREADS, self._threads)
        for thread in range(self._threads):
            self._put(driver.CURSORS + 8 * thread, driver.CLOSED)
        self.set_idle()

    def set_idle(self) -> None:
        """Set the mode in which workers neither work nor stop."""
        self._put(driver.MODE, driver.IDLE)

    def _put(self, offset: int, value: int) -> None:
        ctypes.c_uint64.from_address(self.address + offset).value = value


_YIELD_AFTER = 5e-5  # seconds that a thread spins inside a run before it yields


@cache
def _pause_seconds() -> float:
    """Return the seconds of one pause instruction: 10 to 150 cycles, depending on the processor."""
    pause, count, best = _Driver().pause, 1000, 1.0
    for _ in range(5):
        start = time.perf_counter()
        pause(count)
        best = min(best, time.perf_counter() - start)
    return max(best / count, 1e-10)


_registry_lock = threading.RLock()
_pools: weakref.WeakSet[ThreadPool] = weakref.WeakSet()
_started_pools: set[ThreadPool] = set()  # those with workers, which are stopped at exit
_shared_pools: dict[int, ThreadPool] = {}
_exiting = False


def _after_fork() -> None:
    global _registry_lock
    _registry_lock = threading.RLock()
    _started_pools.clear()
    for pool in list(_pools):
        pool._reset_after_fork()


def _at_exit() -> None:
    global _exiting
    _exiting = True
    for pool in list(_started_pools):
        pool.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)
