"""Elements of vectors rearranged: parts of vectors in memory, every second element, transposed squares."""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir

from gpmt.runtime.codegen.emitter import F32, I32, Emitter

QUAD = 4  # elements that a processor shuffles in one instruction within 128 bits


def shuffle(e: Emitter, left: ir.Value, right: ir.Value, order: Sequence[int]) -> ir.Value:
    """Return the elements of two concatenated vectors at the indices of `order`."""
    indices = ir.Constant(ir.VectorType(I32, len(order)), list(order))
    return e.builder.shuffle_vector(left, right, indices)


def keep_first(e: Emitter, value: ir.Value, count: int) -> ir.Value:
    """Return a vector whose elements from `count` on are set to 0.0."""
    if count >= e.lanes:
        return value
    return e.apply_mask(value, ir.Constant(e.mask, [-1 if i < count else 0 for i in range(e.lanes)]))


def load_first(e: Emitter, address: ir.Value, count: int, offset: int = 0) -> ir.Value:
    """Return a vector with `count` elements from memory, the rest zeros; nothing else is read."""
    if count >= e.lanes:
        return e.load(address, e.vector, offset)
    result = e.splat(0.0)
    for start, size in _power_of_two_parts(count):
        if size == 1:
            element = e.load(address, F32, offset + 4 * start)
            result = e.builder.insert_element(result, element, ir.Constant(I32, start))
            continue
        part = e.load(address, ir.VectorType(F32, size), offset + 4 * start)
        wide = shuffle(e, part, part, [i % size for i in range(e.lanes)])
        inside = range(start, start + size)
        order = [e.lanes + i - start if i in inside else i for i in range(e.lanes)]
        result = shuffle(e, result, wide, order)
    return result


def store_first(e: Emitter, value: ir.Value, address: ir.Value, count: int, offset: int = 0) -> None:
    """Write the first `count` elements of a vector, and nothing else."""
    if count >= e.lanes:
        e.store(value, address, offset)
        return
    for start, size in _power_of_two_parts(count):
        if size == 1:
            part = e.builder.extract_element(value, ir.Constant(I32, start))
        else:
            part = shuffle(e, value, value, range(start, start + size))
        e.store(part, address, offset + 4 * start)


def _power_of_two_parts(count: int) -> list[tuple[int, int]]:
    """Return (start, size) of parts of `count` elements whose sizes are powers of two, largest first."""
    parts, start = [], 0
    for bit in reversed(range(count.bit_length())):
        if count & 1 << bit:
            parts.append((start, 1 << bit))
            start += 1 << bit
    return parts


def gather(e: Emitter, address: ir.Value, step: int, count: int) -> ir.Value:
    """Return a vector with `count` elements that are `step` bytes apart in memory, the rest zeros."""
    result = e.splat(0.0)
    for i in range(count):
        result = e.builder.insert_element(result, e.load(address, F32, i * step), ir.Constant(I32, i))
    return result


def every_second(e: Emitter, halves: Sequence[ir.Value], parity: int) -> ir.Value:
    """Return every second element of two vectors, in an order that takes one instruction: `reorder` corrects it."""
    order = []
    for quad in range(0, e.lanes, QUAD):
        indices = [quad + parity, quad + parity + 2]
        order += indices + [e.lanes + i for i in indices]
    return shuffle(e, halves[0], halves[1], order)


def reorder(e: Emitter, value: ir.Value) -> ir.Value:
    """Return the result of `every_second` in the order of memory."""
    quads = range(0, e.lanes, QUAD)
    order = [quad + i for quad in quads for i in (0, 1)] + [quad + i for quad in quads for i in (2, 3)]
    return value if order == sorted(order) else shuffle(e, value, value, order)


def transpose(e: Emitter, rows: Sequence[ir.Value]) -> list[ir.Value]:
    """Return the columns of a square matrix, given as `lanes` vectors that are its rows."""
    lanes = e.lanes
    quads = range(0, lanes, QUAD)

    def mix(left: ir.Value, right: ir.Value, order: tuple[int, ...]) -> ir.Value:
        """Apply one order to all quads; indices from 4 to 7 are elements of the right vector."""
        return shuffle(
            e, left, right, [q + i if i < QUAD else lanes + q + i - QUAD for q in quads for i in order]
        )

    # parts[g][j] has, as quads, the columns j, j + 4, j + 8, ... of the rows 4g to 4g + 3.
    parts = []
    for g in range(0, lanes, QUAD):
        a, b, c, d = rows[g : g + QUAD]
        low, high = (0, 4, 1, 5), (2, 6, 3, 7)
        first, second = (0, 1, 4, 5), (2, 3, 6, 7)
        ab, cd = mix(a, b, low), mix(c, d, low)
        ab_high, cd_high = mix(a, b, high), mix(c, d, high)
        parts.append(
            [
                mix(ab, cd, first),
                mix(ab, cd, second),
                mix(ab_high, cd_high, first),
                mix(ab_high, cd_high, second),
            ]
        )
    # Then whole quads are transposed: first halves of the vectors are exchanged, then quarters, ...
    step = len(parts) // 2
    while step:
        width = QUAD * step
        for g in range(len(parts)):
            if g & step:
                continue
            for j in range(QUAD):
                left, right = parts[g][j], parts[g + step][j]
                parts[g][j] = shuffle(
                    e, left, right, [lanes + i - width if i & width else i for i in range(lanes)]
                )
                parts[g + step][j] = shuffle(
                    e, left, right, [lanes + i if i & width else i + width for i in range(lanes)]
                )
        step //= 2
    return [parts[q][j] for q in range(len(parts)) for j in range(QUAD)]
