"""Straight-line code for a sparse convolution: the pattern of the weights is in the code.

The filters of a *group* have accumulators of their own, registers of pixels. For every tap that any filter of the
group uses, the code loads the pixels once, and multiplies them by each weight of the tap that is not zero.

There are no offsets to load, no loops over weights and so no mispredicted ends, and no partial sums. A *block* is the
code of one group and one *pass* over a part of the taps; a later pass goes on from the sums in the output. A block is
a function with a loop; a *turn* of it is for one or several vectors of pixels. Its arguments:

    address of the first turn's pixels in the input; the same in output and in residual, first filter of the layer
    address of the first turn's mask: which pixels are no padding
    address of the block's constants: biases of the group, bounds of the activation, weights in the code's order
    number of turns, at least 1
    address of what is prefetched, in equal parts at every turn: the next block

What processors do differently is in a `Dialect`; here is what they share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpmt.arithmetic import round_up
from gpmt.runtime.machine_code.avx512_blocks import Avx512
from gpmt.runtime.machine_code.dialect import Dialect, Ends
from gpmt.runtime.machine_code.instruction_stream import (
    BOUNDS,
    FLOAT_BYTES,
    LINE_BYTES,
    Groups,
    Shape,
    Stream,
)
from gpmt.runtime.machine_code.neon_blocks import Neon

DIALECTS: dict[str, Dialect] = {"avx512": Avx512(), "neon": Neon()}
"""By the kind of processor; other kinds have no straight-line code."""


@dataclass(frozen=True, eq=False)
class StraightLineCode:
    """The code and the weights of a layer.

    Attributes:
        data: uint8, position-independent: each block's code, then its constants.
        blocks: int64 [passes, groups, 3]: offsets in `data` of a block's code and of its constants, and its bytes.
        filters: int64 [groups + 1]: the first filter of each group, and the number of filters.
        loads: of pixels, by all blocks in a turn.
    """

    data: NDArray[np.uint8]
    blocks: NDArray[np.int64]
    filters: NDArray[np.int64]
    loads: int


def emit(
    dialect: Dialect,
    weight: NDArray[np.float32],
    bias: NDArray[np.float32],
    offsets: NDArray[np.int64],
    ends: Ends,
    shape: Shape,
) -> StraightLineCode:
    """Return the code of a convolution or a linear layer.

    Args:
        dialect: of the processor.
        weight: float32 [filters, taps].
        bias: float32 [filters].
        offsets: int64 [taps], bytes from the output's pixel to the input's.
        ends: what is done beside multiply-adds.
        shape: of the code.
    """
    assert ends.activation.kind in ("none", "clamp")
    groups = Groups.of(weight, shape)
    stream = dialect.stream(groups, offsets, shape)
    most = groups.most
    heads: list[bytes] = []
    feet: list[bytes] = []
    for number in range(shape.passes):
        for group in range(groups.count):
            members = range(groups.first(group), groups.first(group + 1))
            heads.append(dialect.head(members, most, ends, shape, first=number == 0))
            last, prefetches = number == shape.passes - 1, int(stream.prefetches[len(feet)])
            feet.append(dialect.foot(members, most, ends, shape, last=last, prefetches=prefetches))
    return _assemble(dialect, groups, stream, heads, feet, bias, ends, shape)


def _assemble(
    dialect: Dialect,
    groups: Groups,
    stream: Stream,
    heads: Sequence[bytes],
    feet: Sequence[bytes],
    bias: NDArray[np.float32],
    ends: Ends,
    shape: Shape,
) -> StraightLineCode:
    """Put heads, multiply-adds, feet and constants of all blocks where they belong."""
    entry, end_bytes = dialect.entry(), len(dialect.end(0))
    blocks, order = len(heads), stream.order
    sizes = stream.needed * stream.sizes
    body = np.bincount(groups.block, sizes.sum(1), blocks).astype(np.int64)
    head_bytes = np.array([len(head) for head in heads])
    foot_bytes = np.array([len(foot) for foot in feet])
    code_bytes = _whole_lines(len(entry) + head_bytes + body + foot_bytes + end_bytes)
    weights_at = np.resize(groups.weights_at(dialect.unit), blocks)
    bounds_at = groups.bounds_at(dialect.unit)
    block_bytes = code_bytes + _whole_lines(FLOAT_BYTES * (weights_at + order.weights))
    starts = np.cumsum(block_bytes) - block_bytes
    constant_starts = starts + code_bytes
    data = np.zeros(int(block_bytes.sum()), np.uint8)

    def put(code: bytes, at: int) -> None:
        data[at : at + len(code)] = np.frombuffer(code, np.uint8)

    floats = data.view(np.float32)
    for b in range(blocks):
        begin = int(starts[b]) + len(entry)
        foot_at = begin + len(heads[b]) + int(body[b])
        put(entry, int(starts[b]))
        put(heads[b], begin)
        put(feet[b] + dialect.end(foot_at + len(feet[b]) - begin), foot_at)
        at, group = int(constant_starts[b]) // FLOAT_BYTES, b % groups.count
        floats[at : at + groups.size(group)] = bias[groups.first(group) : groups.first(group + 1)]
        at += int(bounds_at[group])
        floats[at : at + BOUNDS] = ends.activation.low, ends.activation.high
    floats[constant_starts[groups.block] // FLOAT_BYTES + order.place] = groups.value
    # Where each instruction is: the sizes before it in its block, after the block's head.
    before = np.cumsum(sizes.ravel()).reshape(sizes.shape) - sizes
    block_start = np.zeros(blocks, np.int64)
    filled = order.weights > 0
    block_start[filled] = before[order.first[filled], 0]
    stream.write(data, before + (starts + len(entry) + head_bytes - block_start)[groups.block][:, None])
    table = np.stack([starts, constant_starts, block_bytes], 1).reshape(shape.passes, groups.count, 3)
    edges = np.array([groups.first(group) for group in range(groups.count + 1)], np.int64)
    return StraightLineCode(data, table, edges, stream.loads)


def _whole_lines(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return sizes rounded up to whole cache lines."""
    return np.array([round_up(int(size), LINE_BYTES) for size in sizes], np.int64)
