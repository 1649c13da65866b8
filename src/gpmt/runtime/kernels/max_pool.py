"""Max pooling; the loops and arguments are those of `shared/pool_windows.py`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from llvmlite import ir

from gpmt.runtime.codegen.emitter import Emitter
from gpmt.runtime.kernels.shared.pool_windows import WindowPoolKernel


@dataclass(frozen=True)
class MaxPoolKernel(WindowPoolKernel):
    """The maximum of every window; NaN where a window has one. Attributes as in `WindowPoolKernel`."""

    def _combine(self, e: Emitter, values: Sequence[ir.Value]) -> ir.Value:
        result, others = values[0], list(values[1:])
        for value in others:
            # Written so, it is one instruction on x86, and keeps a NaN that `result` holds.
            result = e.builder.select(e.builder.fcmp_ordered(">", value, result), value, result)
        # Where one of the others is NaN all bits are set, which is NaN as well.
        for left, right in zip(others[::2], others[1::2] + others[-1:], strict=False):
            unordered = e.builder.sext(e.builder.fcmp_unordered("uno", left, right), e.mask)
            result = e.builder.bitcast(e.builder.or_(e.builder.bitcast(result, e.mask), unordered), e.vector)
        return result

    def _outside(self, e: Emitter) -> ir.Constant:
        return e.splat(-math.inf)
