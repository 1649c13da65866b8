"""Another kernel's step that also sets the gaps between planes to zero, in memory that has held something else.

Each item clears its share of the gaps, and then does the same item of the other kernel, which writes no gap and reads
none of this buffer. So no step of its own, and no wait for the other threads, is needed.

    function, arguments  addresses of the other kernel and of its arguments
    planes               address of pixel (0, 0) of the first plane
    sizes                int64 [5]: items, planes; bytes before the first plane, of a plane's rows, and from a plane
                         to the next

Writes everything from the end of a plane's rows to the next plane, and what is before the first plane.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from gpmt.runtime.codegen.emitter import F32, I64, Emitter, constant
from gpmt.runtime.codegen.kernel import KernelSpec
from gpmt.runtime.layout.planes import CACHE_LINE, FLOAT_BYTES, Planes

_LINE_BYTES = FLOAT_BYTES * CACHE_LINE


@dataclass(frozen=True)
class ClearGapsCode:
    """The parameters of the machine code, which buffers of all sizes share."""

    lanes: int

    def emit(self) -> str:
        """Return the kernel's LLVM IR."""
        e = Emitter(self.lanes, ClearGapsKernel.ARGS)
        builder = e.builder
        items, planes, before, rows, stride = e.int64s("sizes", 5)
        first = builder.udiv(builder.mul(e.item, planes), items)
        stop = builder.udiv(builder.mul(e.add(e.item, 1), planes), items)
        origin = e.arg("planes")
        with builder.if_then(builder.icmp_signed("==", e.item, constant(0))):
            self._clear_lines(e, builder.sub(origin, before), origin)
        with e.loop(first, stop) as plane:
            begin = e.add(origin, builder.mul(plane, stride))
            end = e.add(begin, rows)
            line = builder.and_(e.add(end, _LINE_BYTES - 1), constant(-_LINE_BYTES))
            with e.loop(end, line, FLOAT_BYTES) as element:
                e.store(ir.Constant(F32, 0.0), element)
            self._clear_lines(e, line, e.add(begin, stride))
        kind = ir.FunctionType(ir.VoidType(), [I64, I64])
        builder.call(e.pointer(e.arg("function"), kind), [e.arg("arguments"), e.item])
        return e.text()

    def _clear_lines(self, e: Emitter, start: ir.Value, stop: ir.Value) -> None:
        with e.loop(start, stop, _LINE_BYTES) as line:
            for i in range(0, _LINE_BYTES, FLOAT_BYTES * self.lanes):
                e.store(e.splat(0.0), line, i)


@dataclass(frozen=True)
class ClearGapsKernel(KernelSpec):
    """A kernel that clears the gaps of a buffer and does another kernel's items.

    Attributes:
        lanes: elements of a vector register.
        planes: of the buffer.
        items: of the other kernel.
    """

    ARGS: ClassVar[tuple[str, ...]] = ("function", "arguments", "planes", "sizes")

    lanes: int
    planes: Planes
    items: int = 1

    @property
    def code(self) -> ClearGapsCode:
        """The parameters of the machine code."""
        return ClearGapsCode(self.lanes)

    def sizes(self) -> NDArray[np.int64]:
        """Return the argument "sizes"."""
        p = self.planes
        counts = self.items, p.images * p.channels
        return np.array([*counts, p.origin_bytes, FLOAT_BYTES * p.extent, p.plane_bytes], np.int64)
