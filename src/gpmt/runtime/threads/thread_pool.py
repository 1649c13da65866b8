"""Threads that run a table of native steps in one call, with Python's lock released."""

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


def default_threads() -> int:
    """Return how many threads to use: as many as PyTorch does, but no more than this process has processors.

    One where there are no POSIX threads.

    >>> default_threads() >= 1
    True
    """
    import torch  # takes seconds, and nothing else here needs it

    if os.name != "posix":
        return 1
    return max(1, min(torch.get_num_threads(), core_count()))


class StepTable:
    """Steps for `ThreadPool.run`, each (function, args, items): two addresses, and how many items the step has.

    A step calls the function `void(int64* args, int64 item)` once for each item from 0 to items - 1, in any order, in
    several threads at once. The next step begins when all items are done. What the addresses lead to must live
    as long as the table is run. A table is read only, and may be run by several teams.

    Raises:
        RuntimeProgramError: a number of items that is negative or above 2**31 - 1, or a function at address 0.
    """

    def __init__(self, steps: Iterable[tuple[int, int, int]]) -> None:
        rows = [(function, args, items, 0) for function, args, items in steps]
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
    """A number of threads, the caller's and persistent workers, that do the items of each step together.

    Each thread first does its own part of a step's items, the same part in all steps, and then helps the others.
    Workers start at the first run, wait for the next one by spinning for `spin` seconds, and then sleep. A run
    returns when all is done, whether workers came in time or not. Calls from several Python threads take turns,
    except for a team of one thread, which has nothing to share. After `os.fork` the child starts workers of its
    own. Programs share teams through `ThreadPool.shared`.

    Raises:
        RuntimeProgramError: a number of threads outside 1 to 1024, or a system without POSIX threads.
    """

    def __init__(self, threads: int, *, spin: float = 1e-4) -> None:
        if not 1 <= threads <= _MAX_THREADS:
            raise RuntimeProgramError(
                f"a team of {threads} threads is not possible: choose 1 to {_MAX_THREADS}"
            )
        if threads > 1 and os.name != "posix":
            raise RuntimeProgramError(
                f"a team of {threads} threads needs POSIX threads, which {os.name!r} has not: choose 1 thread"
            )
        self.threads = threads
        self._spin = spin
        self._native = _Native()
        self._state = _State(spin, threads) if threads > 1 else None
        self._workers: list[threading.Thread] = []
        self._ready = False  # all workers have started
        self._changing = threading.Lock()  # held while workers are started or ended
        self._lock = threading.RLock()  # a signal's handler may run a program between two bytecodes of a run
        with _guard:
            _teams.add(self)

    @staticmethod
    def shared(threads: int) -> ThreadPool:
        """Return this process's team of a number of threads."""
        with _guard:
            if threads not in _shared:
                _shared[threads] = ThreadPool(threads)
            return _shared[threads]

    def run(self, table: StepTable, repeat: int = 1) -> None:
        """Run all steps of a table in their order, `repeat` times over.

        Raises:
            RuntimeProgramError: the system does not let the workers start.
        """
        if repeat < 1:
            return
        if self._state is None:
            self._native.alone(table.address, len(table), repeat)
            return
        with self._lock:
            if self._changing.locked():  # so this is a signal's handler: to begin anew could go on for ever
                self._native.alone(table.address, len(table), repeat)
                return
            if not self._ready:
                self._change(self._start, self._state)
            self._native.run(self._state.address, table.address, len(table), repeat)

    @property
    def alone_address(self) -> int:
        """The address of `void(int64* table, int64 steps, int64 repeat)`, which runs a table without workers."""
        return ctypes.cast(self._native.alone, ctypes.c_void_p).value or 0

    def close(self) -> None:
        """End the workers, after the run that they are in; the next run starts new ones."""
        if self._state is not None:
            with self._lock:
                self._change(self._end, self._state)

    def _change(self, change: Callable[[_State], None], state: _State) -> None:
        if self._changing.locked():  # in a signal's handler, again
            change(state)
            return
        with self._changing:  # unlike a flag in try and finally, never left behind by an interrupt
            change(state)

    def _start(self, state: _State) -> None:
        self._end(state)  # what an interrupted start or end has left
        # An interpreter that exits starts no threads any more; the caller then does all items itself.
        if _exiting or not threading.main_thread().is_alive():
            return
        _working.add(self)
        try:
            for index in range(1, self.threads):
                name = f"gpmt-{self.threads}-{index}"
                worker = threading.Thread(target=self._serve, args=(state, index), name=name, daemon=True)
                self._workers.append(worker)
                worker.start()
        except RuntimeError as error:
            self._end(state)
            raise RuntimeProgramError(
                f"a team of {self.threads} threads could not start ({error}): choose fewer threads"
            ) from error
        self._ready = True

    def _end(self, state: _State) -> None:
        self._ready = False
        if self._workers:
            self._native.stop(state.address)
            for worker in self._workers:
                if worker.ident is not None:  # it has started
                    worker.join()
            self._workers = []
        state.idle()
        _working.discard(self)

    def _serve(self, state: _State, index: int) -> None:
        self._native.worker(state.address, index)  # the frame keeps the memory

    def _renew(self) -> None:
        """Forget, in the child of a fork, the workers and callers that only the parent has."""
        self._lock = threading.RLock()
        self._workers = []
        self._ready = False
        self._changing = threading.Lock()
        if self._state is not None:
            self._state.reset(self._spin)


class _Native:
    """The functions of the native loop; all release Python's lock."""

    def __init__(self) -> None:
        ir = driver.driver_ir(processor.host().triple)
        address, number = ctypes.c_void_p, ctypes.c_int64
        self.alone = _function(ir, "gpmt_alone", address, number, number)
        self.run = _function(ir, "gpmt_run", address, address, number, number)
        self.worker = _function(ir, "gpmt_worker", address, number)
        self.stop = _function(ir, "gpmt_stop", address)
        self.pause = _function(ir, "gpmt_pause", number)


def _function(ir: str, name: str, *arguments: Any) -> Any:
    return ctypes.CFUNCTYPE(None, *arguments)(jit.load(ir, name))


class _State:
    """The memory that a team's threads share, see driver.py."""

    def __init__(self, spin: float, threads: int) -> None:
        self._threads = threads
        self._memory = ctypes.create_string_buffer(driver.state_bytes(threads) + 127)
        self.address = (ctypes.addressof(self._memory) + 127) // 128 * 128
        self.reset(spin)

    def reset(self, spin: float) -> None:
        """Make it as new; no thread may be using it."""
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
        self._put(driver.YIELD_AFTER, max(1, int(_PATIENCE / pause)))
        self._put(driver.THREADS, self._threads)
        for thread in range(self._threads):
            self._put(driver.CURSORS + 8 * thread, driver.CLOSED)
        self.idle()

    def idle(self) -> None:
        """Say that there is nothing to do, nor to stop for."""
        self._put(driver.MODE, driver.IDLE)

    def _put(self, offset: int, value: int) -> None:
        ctypes.c_uint64.from_address(self.address + offset).value = value


_PATIENCE = 5e-5  # seconds that a thread waits inside a run before it offers its processor to others


@cache
def _pause_seconds() -> float:
    """Return how long one pause takes: 10 to 150 cycles, which differs between processors."""
    pause, count, best = _Native().pause, 1000, 1.0
    for _ in range(5):
        start = time.perf_counter()
        pause(count)
        best = min(best, time.perf_counter() - start)
    return max(best / count, 1e-10)


_guard = threading.RLock()
_teams: weakref.WeakSet[ThreadPool] = weakref.WeakSet()
_working: set[ThreadPool] = set()  # teams with workers: they are ended at exit
_shared: dict[int, ThreadPool] = {}
_exiting = False


def _after_fork() -> None:
    global _guard
    _guard = threading.RLock()
    _working.clear()
    for team in list(_teams):
        team._renew()


def _at_exit() -> None:
    global _exiting
    _exiting = True
    for team in list(_working):
        team.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)
