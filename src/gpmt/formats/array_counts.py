"""What of the arrays in a file can be pruned, by their names, and how much of it is zero."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gpmt.core.blocks.block_names import blocks_by_name
from gpmt.core.blocks.blocks import WHOLE, Blocks
from gpmt.core.layers.adapters import in_adapter
from gpmt.core.layers.layer_names import Neighbours, kind_by_name, role_by_name
from gpmt.core.layers.reach import Reach
from gpmt.core.layers.roles import Role
from gpmt.core.scope.coverage import Outside, sorted_by_size
from gpmt.core.scope.tensor_count import BlockCount, TensorCount
from gpmt.formats.arrays import Array, CodedArray

_FLOATS = ("float64", "float32", "float16", "bfloat16")
_PIECE = 1 << 20  # values at a time, which are whole blocks of coded masks

Arrays = Mapping[str, Array | CodedArray]


def prunable(arrays: Arrays) -> dict[str, str]:
    """Return the names that `gpmt.find_scope` takes by default from a state_dict of these, each with its kind."""
    return {
        name: kind_by_name(name.rpartition(".")[2], arrays[name])
        for name, role in _roles(arrays).items()
        if role is Role.LAYER
    }


def outside(arrays: Arrays) -> tuple[Outside, ...]:
    """Return the other weights of two or more dimensions, as `gpmt.find_scope` does of a state_dict of these."""
    return sorted_by_size(
        Outside(name, arrays[name].numel, role.value, role.needs < Reach.NEVER)
        for name, role in _roles(arrays).items()
        if role not in (Role.LAYER, Role.NO_WEIGHTS)
    )


def _roles(arrays: Arrays) -> dict[str, Role]:
    """Return what the floating arrays of two or more dimensions are for, by their names."""
    found, neighbours = {}, Neighbours(arrays)
    for name, array in arrays.items():
        if array.dtype in _FLOATS and array.ndim >= 2 and array.numel:
            role = role_by_name(name, array, neighbours)
            found[name] = Role.ADAPTER if role is Role.LAYER and in_adapter(name, {}) else role
    return found


def count_array(name: str, kind: str, array: Array | CodedArray, beside: Arrays) -> TensorCount:
    """Count the weights of an array that are not zero, in all and by blocks, and its outputs that have any.

    It is read piece by piece. `beside` are all arrays of the file, which tell how it divides.
    """
    outputs = array.shape[0]
    live, kept, not_finite, start = np.zeros(outputs, np.bool_), 0, 0, 0
    blocks = blocks_by_name(name, array, beside) or WHOLE
    in_block = np.zeros(len(blocks), np.int64)
    for piece in array.pieces(_PIECE):
        not_zero = np.flatnonzero(piece)
        kept += not_zero.size
        not_finite += piece.size - int(np.isfinite(piece).sum())
        live[(not_zero + start) // (array.numel // outputs)] = True
        in_block += np.bincount(_block_of(not_zero + start, array.shape, blocks), minlength=len(blocks))
        start += piece.size
    found = tuple(
        BlockCount(block, math.prod(shape), int(count), part=True)
        for block, shape, count in zip(blocks.names(name), blocks.shapes(array.shape), in_block, strict=True)
    )
    count = TensorCount(name, kind, array.shape, array.numel, kept, not_finite, outputs, int(live.sum()))
    return count if len(found) == 1 else replace(count, blocks=found)


def _block_of(positions: NDArray[np.int64], shape: tuple[int, ...], blocks: Blocks) -> NDArray[np.int64]:
    """Return for each flat position which block it is in."""
    found = np.zeros_like(positions)
    for split in blocks.splits:
        index = positions // math.prod(shape[split.dim + 1 :]) % shape[split.dim]
        ends = np.cumsum(split.parts)
        found = found * len(split.parts) + np.searchsorted(ends, index % ends[-1], side="right")
    return found
