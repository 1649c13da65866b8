"""The times of steps in a run of many: a step after each one adds what has passed since the last to a total.

    clock  int64 [1]: the counter at the last stamp
    total  int64 [1]: the sum of what has passed between the stamps before and these
    read   address of the C library's `clock_gettime`, where the counter is not an instruction that LLVM knows
    which  integer: its number for a clock that never goes back

The counter is that of an x86 processor, elsewhere nanoseconds. A stamp begins when the step before has ended.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from gpmt.runtime.codegen import processor
from gpmt.runtime.codegen.emitter import I32, I64, Emitter
from gpmt.runtime.codegen.kernel import FixedSizeKernel, load
from gpmt.runtime.threads.thread_pool import Row, StepTable


@dataclass(frozen=True)
class StampKernel(FixedSizeKernel):
    """The kernel; a step of one item.

    Attributes:
        x86: whether the processor is one.
    """

    ARGS: ClassVar[tuple[str, ...]] = ("clock", "total", "read", "which")

    x86: bool
    items: int = 1

    def emit(self) -> str:
        """Return the kernel's LLVM IR."""
        e = Emitter(1, self.ARGS)
        if self.x86:
            kind = ir.FunctionType(I64, [])
            now = e.builder.call(ir.Function(e.module, kind, "llvm.readcyclecounter"), [])
        else:  # LLVM's instruction is not for programs there
            place = e.builder.ptrtoint(e.builder.alloca(ir.ArrayType(I64, 2)), I64)
            read = e.pointer(e.arg("read"), ir.FunctionType(I32, [I32, I64]))
            e.builder.call(read, [e.builder.trunc(e.arg("which"), I32), place])
            seconds, rest = (e.load(place, I64, 8 * i, align=8) for i in range(2))
            now = e.add(e.mul(seconds, 10**9), rest)
        passed = e.builder.sub(now, e.load(e.arg("clock"), I64, align=8))
        e.store(e.add(passed, e.load(e.arg("total"), I64, align=8)), e.arg("total"), align=8)
        e.store(now, e.arg("clock"), align=8)
        return e.text()


class StampedTable:
    """A table of steps with a stamp before the first, and one after each.

    Args:
        rows: the steps.

    Attributes:
        table: for a thread pool, or for a loop over samples.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        self._clock = np.zeros(1, np.int64)
        self._totals = np.zeros(len(rows) + 1, np.int64)
        clock, totals = int(self._clock.ctypes.data), int(self._totals.ctypes.data)
        x86 = processor.host().triple.startswith(("x86_64", "i686"))
        read = 0 if x86 else ctypes.cast(ctypes.CDLL(None)["clock_gettime"], ctypes.c_void_p).value or 0
        which = 0 if x86 else time.CLOCK_MONOTONIC
        self._args = np.array([(clock, totals + 8 * i, read, which) for i in range(len(rows) + 1)], np.int64)
        function, args, apart = load(StampKernel(x86)), int(self._args.ctypes.data), self._args.strides[0]
        stamps = [(function, args + apart * i, 1, 0) for i in range(len(rows) + 1)]
        mixed = [stamps[0]]
        for row, stamp in zip(rows, stamps[1:], strict=True):
            mixed += [row, stamp]
        self.table = StepTable(mixed)

    @staticmethod
    def place(steps: int) -> int:
        """Return how many rows the first `steps` steps and their stamps are."""
        return 1 + 2 * steps if steps else 0

    def take(self) -> NDArray[np.int64]:
        """Return what has passed in each step since the last call, and begin anew."""
        result = self._totals[1:].copy()
        self._totals[:] = 0
        return result
