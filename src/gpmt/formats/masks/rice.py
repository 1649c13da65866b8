"""Masks in few bits: the gaps between kept weights, Rice-coded, in blocks that can be read on their own.

A gap is how many pruned weights lie before a kept one. Gaps g of a mask without structure are geometric, and Rice's
code (R. F. Rice, 1979; the case of Golomb's where the divisor is a power of two) writes them within a few percent of
the entropy: g >> k zeros, a one, then the k low bits of g. One k serves a tensor, the one with the fewest bits. Where
more weights are kept than pruned, the gaps between pruned weights are coded instead.

`docs/format.md` has the layout to the bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpmt.arithmetic import ceil_div
from gpmt.errors import MaskError
from gpmt.formats.masks import rice_loops

Bits = NDArray[np.uint8]
Elements = NDArray[Any]

BLOCK = rice_loops.BLOCK
"""Weights in a block: few enough to stay in the cache, many enough that its entry in the index weighs nothing."""
MAX_PARAMETER = rice_loops.MAX_PARAMETER
_ENTRY = 8  # bytes of a block's entry in the index: two little-endian uint32
_BLOCKS_PER_CALL = 16  # blocks decoded by one call


@dataclass(frozen=True)
class RiceCode:
    """The coded mask of one tensor; `encode` makes it, and a reader rebuilds it from a file.

    Attributes:
        numel: weights of the tensor.
        kept: how many of them are kept.
        parameter: k, 0 to 16.
        complement: whether the positions of the pruned weights are coded, not those of the kept.
        data: uint8; for each block the number of coded positions and of bytes (uint32 each), then the blocks' bytes.
    """

    numel: int
    kept: int
    parameter: int
    complement: bool
    data: Bits

    @cached_property
    def index(self) -> Index:
        """The index at the start of `data`, checked. Raises `MaskError` where it is damaged."""
        return _read_index(self)


@dataclass(frozen=True)
class Index:
    """Where the blocks of a coded mask are.

    Attributes:
        coded: int64 [blocks], positions that each block codes.
        starts: int64 [blocks + 1], byte in `RiceCode.data` at which each block starts, and where the last ends.
        kept: int64 [blocks + 1], weights kept before each block, and in all.
    """

    coded: NDArray[np.int64]
    starts: NDArray[np.int64]
    kept: NDArray[np.int64]


def encode(packed: Bits, numel: int) -> RiceCode:
    """Code a mask given as packed bits, uint8 [ceil(numel / 8)], bit i at byte i // 8, bit i % 8; 1 = kept.

    >>> code = encode(np.array([0b0001_0001, 0b1], np.uint8), 12)
    >>> code.parameter, code.data.tolist()  # gaps 0, 3, 3; k = 1: from the lowest bit on 1 0, 0 1 1, 0 1 1
    (1, [3, 0, 0, 0, 1, 0, 0, 0, 217])
    >>> decode(code).tolist()
    [17, 1]
    """
    kept = int(np.bitwise_count(packed).sum(dtype=np.int64))
    complement = 2 * kept > numel
    blocks = _blocks(numel)
    coded = np.zeros(blocks, np.int64)
    costs = np.zeros((blocks, MAX_PARAMETER + 1), np.int64)
    rice_loops.measure(packed, numel, complement, coded, costs)
    parameter = int(costs.sum(axis=0).argmin())
    lengths = (costs[:, parameter] + 7) // 8
    index = np.stack([coded, lengths], axis=1).astype("<u4").view(np.uint8).reshape(-1)
    data = np.zeros(index.size + int(lengths.sum()), np.uint8)
    data[: index.size] = index
    starts = index.size + np.cumsum(lengths) - lengths
    rice_loops.write(packed, numel, complement, parameter, starts, data)
    return RiceCode(numel, kept, parameter, complement, data)


def decode(code: RiceCode) -> Bits:
    """Return the packed bits that `encode` was given. Raises `MaskError` where the code is damaged."""
    index = code.index
    packed = np.zeros((code.numel + 7) // 8, np.uint8)
    bad = rice_loops.read_bits(
        code.data, index.starts, index.coded, code.numel, code.parameter, code.complement, packed
    )
    _refuse(bad)
    return packed


def scatter(code: RiceCode, first: int, last: int, values: Elements, out: Elements) -> None:
    """Write the weights of the blocks `first` to `last` - 1 to `out`: `values` where kept, zero elsewhere.

    `values` are the kept weights of these blocks, as integers of any width, in flat order; `out` has the same type
    and one entry for each weight of these blocks. Raises `MaskError` where the code is damaged; `out` is then
    partly written.
    """
    index = code.index
    size = min(last * BLOCK, code.numel) - first * BLOCK
    if out.size != size or values.size != index.kept[last] - index.kept[first]:
        raise MaskError(
            f"the blocks {first} to {last} hold {size:,} weights and keep {index.kept[last] - index.kept[first]:,}, "
            f"not {out.size:,} and {values.size:,}; the mask is damaged"
        )
    starts, coded = index.starts[first : last + 1], index.coded[first:last]
    _refuse(rice_loops.scatter(code.data, starts, coded, code.parameter, code.complement, values, out))


def gather(packed: Bits, weights: Elements) -> Elements:
    """Return the weights [n] of any type whose bit is set in `packed`, in flat order; `scatter` is the inverse."""
    kept = np.empty(int(np.bitwise_count(packed).sum(dtype=np.int64)), weights.dtype)
    rice_loops.gather(packed, weights, kept)
    return kept


def index_bytes(numel: int) -> int:
    """Return the bytes of the index of a mask of so many weights, the minimum size of its code."""
    return _blocks(numel) * _ENTRY


def block_ranges(numel: int, at_a_time: int = _BLOCKS_PER_CALL) -> Iterator[tuple[int, int]]:
    """Yield (first, last) of the blocks to decode in one call: about a million weights each."""
    blocks = _blocks(numel)
    for first in range(0, blocks, at_a_time):
        yield first, min(first + at_a_time, blocks)


def _blocks(numel: int) -> int:
    return ceil_div(numel, BLOCK)


def _read_index(code: RiceCode) -> Index:
    blocks, data = _blocks(code.numel), code.data
    if not 0 <= code.kept <= code.numel:
        raise MaskError(f"it keeps {code.kept:,} of {code.numel:,} weights; the mask is damaged")
    if not 0 <= code.parameter <= MAX_PARAMETER:
        raise MaskError(
            f"its Rice parameter is {code.parameter}, not 0 to {MAX_PARAMETER}; the mask is damaged"
        )
    if data.ndim != 1 or data.size < blocks * _ENTRY:
        raise MaskError(
            f"its mask has {data.size:,} bytes, too few for the index of {blocks:,} blocks; the mask is damaged"
        )
    entries = data[: blocks * _ENTRY].view("<u4").reshape(blocks, 2).astype(np.int64)
    coded, lengths = entries[:, 0], entries[:, 1]
    sizes = np.full(blocks, BLOCK, np.int64)
    if blocks:
        sizes[-1] = code.numel - (blocks - 1) * BLOCK
    if (coded > sizes).any():
        raise MaskError("a block of its mask codes more positions than it has; the mask is damaged")
    starts = blocks * _ENTRY + np.concatenate([[0], np.cumsum(lengths)])
    if int(starts[-1]) != data.size:
        raise MaskError(
            f"the blocks of its mask end at byte {int(starts[-1]):,} of {data.size:,}; the mask is damaged"
        )
    kept = np.concatenate([[0], np.cumsum(sizes - coded if code.complement else coded)])
    if int(kept[-1]) != code.kept:
        raise MaskError(
            f"the blocks of its mask keep {int(kept[-1]):,} weights, not {code.kept:,}; it is damaged"
        )
    return Index(coded, starts, kept)


def _refuse(bad: int) -> None:
    if bad >= 0:
        raise MaskError(f"block {bad:,} of its mask is not a valid code; the mask is damaged")
