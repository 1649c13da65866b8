"""Straight-line code for AVX-512: an accumulator a filter, weights that multiply-adds broadcast from memory.

    vmovups      zmm29, [rdi + offset of the tap]
    vfmadd231ps  zmm4,  zmm29, dword [rax + 4 · i]{1to16}
    vfmadd231ps  zmm17, zmm29, dword [rax + 4 · (i + 1)]{1to16}
    ...

A tap whose offset is not a multiple of 64 bytes can be read in two ways: by a load that crosses cache lines, or
*aligned*, from two lines that are loaded once and joined by `valignd`.

A block is called with the System V convention: rdi, rsi, rdx, rcx, r8, r9, and the seventh argument on the stack.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from gpmt.runtime.machine_code import avx512
from gpmt.runtime.machine_code.avx512 import FLOAT_BYTES, LANES, VECTOR_BYTES, Register
from gpmt.runtime.machine_code.dialect import Dialect, Ends
from gpmt.runtime.machine_code.instruction_stream import (
    LINE_BYTES,
    Groups,
    Order,
    Shape,
    Stream,
    changes,
    pattern,
)

MOST_FILTERS = 31
"""Filters of a group: all registers but the one for pixels."""
MOST_FILTERS_ALIGNED = 29
"""With two more registers for lines."""

WEIGHTS, INPUT, NEXT = Register.RAX, Register.RDI, Register.R10
"""Where the code has the address of weights (a page's middle), of pixels, and of what it prefetches."""
PAGE = 256
"""Constants that short displacements reach, from -128 to 127."""
PAGE_BYTES = FLOAT_BYTES * PAGE
_OUTPUT, _RESIDUAL, _MASK = Register.RSI, Register.RDX, Register.RCX
_CONSTANTS, _COUNT = Register.R8, Register.R9

# What comes before the multiply-add of a weight, where it is needed, in this order; and the multiply-add.
_EVEN_LINE, _ODD_LINE, _JOIN, _FMA = range(2, 6)
_PATTERNS = (
    avx512.increase(WEIGHTS, PAGE_BYTES),
    avx512.prefetch(NEXT, 0, wide=True),
    avx512.load(0, INPUT, 0, wide=True),
    avx512.load(0, INPUT, 0, wide=True),
    avx512.align(0, 0, 0, 0),
    avx512.multiply_add(0, 0, WEIGHTS, 0),
)
_SIZES = np.array([len(code) for code in _PATTERNS])
_LOADS = (_EVEN_LINE, _ODD_LINE)
_MOST_PREFETCHES = 1 << 24
_JUMP_BYTES = len(avx512.jump_if_not_zero(0))


class Avx512(Dialect):
    """Straight-line code for AVX-512."""

    lanes: ClassVar[int] = LANES
    unit: ClassVar[int] = 1

    def shapes(self, *, crossing: bool) -> tuple[Shape, ...]:
        """Return the shapes that are worth trying."""
        joined = (Shape(MOST_FILTERS_ALIGNED, aligned=True),) if crossing else ()
        return (Shape(MOST_FILTERS), *joined)

    def mask(self, mask: NDArray[np.int32]) -> NDArray[np.generic]:
        """Return a bit for each pixel."""
        bits = mask.astype(np.bool_).reshape(-1, LANES)
        return np.packbits(bits, axis=1, bitorder="little").reshape(-1).view("<u2")

    def mask_bytes(self, shape: Shape) -> int:
        """Return the bytes of the mask that a turn reads."""
        return LANES // 8

    def stream(self, groups: Groups, offsets: NDArray[np.int64], shape: Shape) -> Stream:
        """Return the instructions between heads and feet."""
        return Avx512Stream(groups, offsets, shape)

    def entry(self) -> bytes:
        """Return the load of the seventh argument."""
        return avx512.load_stack(NEXT, 8)

    def head(self, members: range, most: int, ends: Ends, shape: Shape, *, first: bool) -> bytes:
        """Return what comes before the multiply-adds of a turn."""
        code = [avx512.load_mask(1, _MASK, 0), avx512.load_address(WEIGHTS, _CONSTANTS, PAGE_BYTES // 2)]
        for accumulator, filter_ in enumerate(members):
            if first:
                place = FLOAT_BYTES * accumulator - PAGE_BYTES // 2
                code.append(avx512.broadcast(accumulator, WEIGHTS, place))
            else:
                code.append(avx512.load(accumulator, _OUTPUT, filter_ * ends.output_stride))
        return b"".join(code)

    def foot(
        self, members: range, most: int, ends: Ends, shape: Shape, *, last: bool, prefetches: int
    ) -> bytes:
        """Return what comes after the multiply-adds of a turn."""
        code = []
        registers, spare = range(len(members)), len(members)
        residual, activation = ends.residual_stride, ends.activation
        if last:
            if residual is not None:
                code += [
                    avx512.add(a, _RESIDUAL, f * residual) for a, f in zip(registers, members, strict=True)
                ]
            bounds = [(activation.low, avx512.maximum), (activation.high, avx512.minimum)]
            for index, (bound, limit) in enumerate(bounds):
                if activation.kind == "clamp" and np.isfinite(bound):
                    code.append(
                        avx512.broadcast(spare, _CONSTANTS, FLOAT_BYTES * (len(members) + index))
                        if bound
                        else avx512.clear(spare)
                    )
                    code += [limit(a, spare, a) for a in registers]
            code += [avx512.select(a, a, 1) for a in registers]
        code += [
            avx512.store(a, _OUTPUT, f * ends.output_stride) for a, f in zip(registers, members, strict=True)
        ]
        moved = (INPUT, _OUTPUT) if residual is None else (INPUT, _OUTPUT, _RESIDUAL)
        code += [avx512.increase(pointer, VECTOR_BYTES) for pointer in moved]
        code.append(avx512.increase(_MASK, LANES // 8))
        if prefetches:
            code.append(avx512.increase(NEXT, LINE_BYTES * prefetches))
        code.append(avx512.decrease_by_one(_COUNT))
        return b"".join(code)

    def end(self, back: int) -> bytes:
        """Return the jump to the head, and the return."""
        return avx512.jump_if_not_zero(-(back + _JUMP_BYTES)) + avx512.leave()


class Avx512Stream(Stream):
    """The instructions between heads and feet.

    Attributes:
        aligned: whether lines are joined.
        line_offsets: int64 [weights, 2], the offsets of pixels that the two loads read.
        shift: int64 [weights], the elements that lines are joined at.
        swapped: bool [weights], whether the odd line is the lower one.
        pixels: int64 [weights], the vector register with the pixels.
        page_place: int64 [weights], where the weight is in its page, from -128 on.
    """

    def __init__(self, groups: Groups, offsets: NDArray[np.int64], shape: Shape) -> None:
        self.groups, self.sizes, self.aligned = groups, _SIZES, shape.aligned
        self.order = order = Order.of(groups, shape, Avx512.unit)
        n, most = len(groups.block), groups.most
        self.needed = needed = np.zeros((n, len(_SIZES)), np.bool_)
        needed[:, _FMA] = True
        self.turn_pages(order.place // PAGE)
        self.page_place = order.place % PAGE - PAGE // 2
        offset = offsets[groups.tap]
        self.line_offsets = np.zeros((n, 2), np.int64)
        self.shift = np.zeros(n, np.int64)
        self.swapped = np.zeros(n, np.bool_)
        self.pixels = np.full(n, most)
        if shape.aligned:
            low = offset // VECTOR_BYTES
            self.shift = offset % VECTOR_BYTES // FLOAT_BYTES
            self.swapped = (low & 1).astype(np.bool_)
            joined = self.shift > 0
            for parity, instruction in enumerate(_LOADS):
                own = (low & 1) == parity
                wanted = np.where(own, low, low + 1)
                self.line_offsets[:, parity] = wanted * VECTOR_BYTES
                uses = order.new_tap & (own | joined)
                needed[:, instruction] = uses & changes(wanted, uses, groups.block)
            needed[:, _JOIN] = order.new_tap & joined
            self.pixels = np.where(joined, most, most + 1 + (low & 1))
        else:
            self.line_offsets[:, 0] = offset
            needed[:, _EVEN_LINE] = order.new_tap
        self.loads = int(needed[:, _LOADS].sum())
        self.spread_prefetches(shape.prefetched_over, _MOST_PREFETCHES)

    def write(self, data: NDArray[np.uint8], at: NDArray[np.int64]) -> None:
        """Write the instructions of all weights, those of one kind together: a pattern, and the bytes that differ."""
        most = self.groups.most

        def put(kind: int, patterns: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
            return self.put(data, at, kind, patterns)

        def put_number(kind: int, places: NDArray[np.int64], numbers: NDArray[np.int64]) -> None:
            """Write 4 bytes at the end of instructions."""
            data[places[:, None] + np.arange(_SIZES[kind] - 4, _SIZES[kind])] = (
                numbers.astype("<i4").view(np.uint8).reshape(-1, 4)
            )

        put(self.NEW_PAGE, pattern(_PATTERNS[self.NEW_PAGE]))
        places, where = put(self.PREFETCH, pattern(_PATTERNS[self.PREFETCH]))
        put_number(self.PREFETCH, places, self.prefetch_number[where] * LINE_BYTES)
        for parity, kind in enumerate(_LOADS):
            register = most + 1 + parity if self.aligned else most
            places, where = put(kind, pattern(avx512.load(register, INPUT, 0, wide=True)))
            put_number(kind, places, self.line_offsets[where, parity])
        if self.aligned:
            even, odd = most + 1, most + 2
            joins = np.stack(
                [pattern(avx512.align(most, odd, even, 0)), pattern(avx512.align(most, even, odd, 0))]
            )
            places, where = put(_JOIN, joins[self.swapped[self.needed[:, _JOIN]].astype(np.int64)])
            data[places + 6] = self.shift[where]
        table = np.array(
            [
                [
                    list(avx512.multiply_add(a, most + p, WEIGHTS, FLOAT_BYTES))
                    for p in range(3 if self.aligned else 1)
                ]
                for a in range(most)
            ],
            np.uint8,
        ).reshape(most, -1, 7)
        places, _ = put(_FMA, table[self.groups.accumulator, self.pixels - most])
        data[places + 6] = self.page_place.astype(np.int8).view(np.uint8)
