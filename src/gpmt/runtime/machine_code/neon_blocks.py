"""Straight-line code for NEON: weights come four to a register, and multiply-adds take one by its place there.

    ldr   q30, [x12, #offset of the tap]
    ldr   q31, [x7, #16 · i]                 once for four weights
    fmla  v4.4s,  v30.4s, v31.s[0]
    fmla  v17.4s, v30.4s, v31.s[1]
    ...

Of the 32 registers one has weights, and with V vectors of pixels in a turn V have pixels; so there are up to
(31 − V) / V filters in a group. One load of pixels serves the more multiply-adds, the more filters there are; one of
weights the more, the more vectors. With 30 filters and one vector a layer at 90 % takes 0.57 loads a multiply-add
(1 / 3.1 of pixels, 1 / 4 of weights), with 14 and two 0.68, with 6 and four 0.84; the loops take 1 + 1.5 / T. Code is
4 bytes a multiply-add in all of them, so that a layer's code for one vector is the shortest.

An offset in a load is at most 65520 bytes and a multiple of 16, and taps are at any multiple of 4. So the input has
four addresses, 4 bytes from each other, and for each a *window* of 32 KiB that the code moves when a tap is outside.

A block is called with the convention of AArch64: arguments are in x0 to x6, and d8 to d15 have to be preserved.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from gpmt.runtime.machine_code import neon
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
from gpmt.runtime.machine_code.neon import FLOAT_BYTES, LANES, SP, VECTOR_BYTES

_OUTPUT, _RESIDUAL, _MASK, _CONSTANTS, _COUNT, _NEXT = range(1, 7)
_WEIGHTS, _NUMBER = 7, 8
_INPUTS = (0, 9, 10, 11)  # of taps at 0, 4, 8 and 12 bytes from a multiple of 16
_WINDOWS = (
    12,
    13,
    14,
    15,
)  # for each of them, from a multiple of 4 on; in heads and feet: addresses of filters
_FILTER, _ADDED, _STRIDE = _WINDOWS[:3]

_WINDOW_BITS = 15
_PAGE_BYTES = 65536  # of weights, as far as loads reach
_MOST_PREFETCHES = 512
_SAVED = range(8, 16)  # vector registers

# What comes before the multiply-adds of a weight, where it is needed, in this order; and the multiply-adds.
_MOVE, _LOAD, _QUAD, _FMA = range(2, 6)


class Neon(Dialect):
    """Straight-line code for NEON."""

    lanes: ClassVar[int] = LANES
    unit: ClassVar[int] = 4

    def shapes(self, *, crossing: bool) -> tuple[Shape, ...]:
        """Return the shapes that are worth trying."""
        return tuple(Shape(most_filters(vectors), vectors=vectors) for vectors in (1, 2, 4))

    def mask(self, mask: NDArray[np.int32]) -> NDArray[np.generic]:
        """Return the mask as it is: all bits of each pixel."""
        return mask

    def mask_bytes(self, shape: Shape) -> int:
        """Return the bytes of the mask that a turn reads."""
        return VECTOR_BYTES * shape.vectors

    def stream(self, groups: Groups, offsets: NDArray[np.int64], shape: Shape) -> Stream:
        """Return the instructions between heads and feet."""
        return NeonStream(groups, offsets, shape)

    def entry(self) -> bytes:
        """Return what saves registers, and the addresses of the input."""
        code = [neon.decrease(SP, SP, 8 * len(_SAVED))]
        code += [neon.store_halves(v, v + 1, SP, 8 * (v - _SAVED[0])) for v in _SAVED[::2]]
        code += [
            neon.increase(register, _INPUTS[0], FLOAT_BYTES * i)
            for i, register in enumerate(_INPUTS[1:], start=1)
        ]
        return b"".join(code)

    def head(self, members: range, most: int, ends: Ends, shape: Shape, *, first: bool) -> bytes:
        """Return what comes before the multiply-adds of a turn."""
        vectors, filters = range(shape.vectors), range(len(members))
        weights = most * shape.vectors + shape.vectors
        code = [neon.increase(_WEIGHTS, _CONSTANTS, 0)]
        if first:
            for f in filters:
                if f % 4 == 0:
                    code.append(neon.load(weights, _CONSTANTS, FLOAT_BYTES * f))
                code += [neon.broadcast(f * shape.vectors + v, weights, f % 4) for v in vectors]
        else:
            code += _filter_address(_FILTER, _OUTPUT, members.start, ends.output_stride)
            for f in filters:
                code += [neon.load(f * shape.vectors + v, _FILTER, VECTOR_BYTES * v) for v in vectors]
                code.append(neon.add_shifted(_FILTER, _FILTER, _STRIDE, 0))
        return b"".join(code)

    def foot(
        self, members: range, most: int, ends: Ends, shape: Shape, *, last: bool, prefetches: int
    ) -> bytes:
        """Return what comes after the multiply-adds of a turn."""
        vectors, filters = range(shape.vectors), range(len(members))
        accumulators = range(len(members) * shape.vectors)
        pixels = most * shape.vectors
        weights = pixels + shape.vectors
        code: list[bytes] = []
        if last:
            if ends.residual_stride is not None:
                code += _filter_address(_ADDED, _RESIDUAL, members.start, ends.residual_stride)
                for f in filters:
                    for v in vectors:
                        a = f * shape.vectors + v
                        code += [neon.load(pixels, _ADDED, VECTOR_BYTES * v), neon.add(a, a, pixels)]
                    code.append(neon.add_shifted(_ADDED, _ADDED, _STRIDE, 0))
            if ends.activation.kind == "clamp":
                code.append(neon.load(weights, _CONSTANTS, FLOAT_BYTES * -(-len(members) // 4 * 4)))
                bounds = (ends.activation.low, neon.maximum), (ends.activation.high, neon.minimum)
                for index, (bound, limit) in enumerate(bounds):
                    if np.isfinite(bound):
                        code.append(neon.broadcast(pixels, weights, index))
                        code += [limit(a, a, pixels) for a in accumulators]
            code += [neon.load(pixels + v, _MASK, VECTOR_BYTES * v) for v in vectors]
            code += [neon.both_bits(a, a, pixels + a % shape.vectors) for a in accumulators]
        code += _filter_address(_FILTER, _OUTPUT, members.start, ends.output_stride)
        for f in filters:
            code += [neon.store(f * shape.vectors + v, _FILTER, VECTOR_BYTES * v) for v in vectors]
            code.append(neon.add_shifted(_FILTER, _FILTER, _STRIDE, 0))
        moved = (*_INPUTS, _OUTPUT, _MASK, *(() if ends.residual_stride is None else (_RESIDUAL,)))
        code += [neon.increase(pointer, pointer, VECTOR_BYTES * shape.vectors) for pointer in moved]
        if prefetches:
            code += [
                neon.set_number(_NUMBER, LINE_BYTES * prefetches),
                neon.add_shifted(_NEXT, _NEXT, _NUMBER, 0),
            ]
        code.append(neon.decrease(_COUNT, _COUNT, 1))
        return b"".join(code)

    def end(self, back: int) -> bytes:
        """Return the jump to the head, and what restores registers and returns."""
        code = [neon.jump_if_zero(_COUNT, 8), neon.jump(-(back + 4))]
        code += [neon.load_halves(v, v + 1, SP, 8 * (v - _SAVED[0])) for v in _SAVED[::2]]
        return b"".join([*code, neon.increase(SP, SP, 8 * len(_SAVED)), neon.leave()])


def most_filters(vectors: int) -> int:
    """Return the filters that a group can have: registers are left for the pixels, and one for weights.

    >>> [most_filters(vectors) for vectors in (1, 2, 4)]
    [30, 14, 6]
    """
    return (31 - vectors) // vectors


def _filter_address(target: int, plane: int, filter_: int, stride: int) -> list[bytes]:
    """Return what sets a register to the address of a filter's pixels, and another to the stride."""
    offset = _set(_NUMBER, filter_ * stride)
    return [*offset, neon.add_shifted(target, plane, _NUMBER, 0), *_set(_STRIDE, stride)]


def _set(register: int, number: int) -> list[bytes]:
    """Return what sets a register to a number below 2^32."""
    upper = number >> 16
    return [neon.set_number(register, number & 0xFFFF)] + ([neon.set_upper(register, upper)] if upper else [])


class NeonStream(Stream):
    """The instructions between heads and feet.

    Attributes:
        vectors: of pixels in a turn.
        source: int64 [weights], which of the four addresses of the input a tap is read from.
        window, place: int64 [weights], the number of its window, and multiples of 16 bytes in it.
    """

    def __init__(self, groups: Groups, offsets: NDArray[np.int64], shape: Shape) -> None:
        self.groups, self.vectors = groups, shape.vectors
        self.order = order = Order.of(groups, shape, Neon.unit)
        self.sizes = np.array([4, 4, 8, 4 * shape.vectors, 4, 4 * shape.vectors])
        self.needed = needed = np.zeros((len(groups.block), len(self.sizes)), np.bool_)
        offset = offsets[groups.tap]
        self.window = offset >> _WINDOW_BITS
        inside = offset - (self.window << _WINDOW_BITS)
        self.place, self.source = inside // VECTOR_BYTES, inside % VECTOR_BYTES // FLOAT_BYTES
        for source in range(len(_WINDOWS)):
            uses = order.new_tap & (self.source == source)
            needed[:, _MOVE] |= changes(self.window, uses, groups.block)
        needed[:, _LOAD] = order.new_tap
        needed[:, _QUAD] = order.place % Neon.unit == 0
        needed[:, _FMA] = True
        self.turn_pages(FLOAT_BYTES * order.place // _PAGE_BYTES)
        self.loads = shape.vectors * int(needed[:, _LOAD].sum())
        self.spread_prefetches(shape.prefetched_over, _MOST_PREFETCHES)

    def write(self, data: NDArray[np.uint8], at: NDArray[np.int64]) -> None:
        """Write the instructions of all weights, those of one kind together."""
        vectors, pixels = range(self.vectors), self.groups.most * self.vectors
        weights = pixels + self.vectors
        page = pattern(neon.increase(_WEIGHTS, _WEIGHTS, _PAGE_BYTES))
        self.put(data, at, self.NEW_PAGE, page)

        def words(kind: int, code: bytes, *fields: tuple[NDArray[np.int64], int]) -> NDArray[np.uint8]:
            """Return, for each weight with this kind, an instruction with fields at bit positions."""
            where = self.needed[:, kind]
            result = np.full(np.count_nonzero(where), int.from_bytes(code, "little"), np.uint32)
            for values, position in fields:
                result |= (values[where] << position).astype(np.uint32)
            return result.astype("<u4").view(np.uint8).reshape(-1, 4)

        lines = (LINE_BYTES // 8 * self.prefetch_number, 10)
        self.put(data, at, self.PREFETCH, words(self.PREFETCH, neon.prefetch(_NEXT, 0), lines))
        windows, which = np.unique(self.window[self.needed[:, _MOVE]], return_inverse=True)
        sets = np.array([list(neon.set_number(_NUMBER, int(window))) for window in windows], np.uint8)
        sets = sets.reshape(-1, 4)[which]
        moves = np.array(
            [
                list(neon.add_shifted(window, address, _NUMBER, _WINDOW_BITS))
                for window, address in zip(_WINDOWS, _INPUTS, strict=True)
            ],
            np.uint8,
        )[self.source[self.needed[:, _MOVE]]]
        self.put(data, at, _MOVE, np.concatenate([sets, moves], 1))
        loads = [
            words(_LOAD, neon.load(pixels + v, _WINDOWS[0], 0), (self.place + v, 10), (self.source, 5))
            for v in vectors
        ]
        self.put(data, at, _LOAD, np.concatenate(loads, 1))
        quad = self.order.place % (_PAGE_BYTES // FLOAT_BYTES) // Neon.unit
        self.put(data, at, _QUAD, words(_QUAD, neon.load(weights, _WEIGHTS, 0), (quad, 10)))
        table = np.array(
            [
                [
                    list(
                        b"".join(
                            neon.multiply_add(a * self.vectors + v, pixels + v, weights, e) for v in vectors
                        )
                    )
                    for e in range(Neon.unit)
                ]
                for a in range(self.groups.most)
            ],
            np.uint8,
        ).reshape(-1, Neon.unit, 4 * self.vectors)
        self.put(data, at, _FMA, table[self.groups.accumulator, self.order.place % Neon.unit])
