"""What of the arrays in a file can be pruned, by their names, and how much of it is zero."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from gpmt.core.adapters import in_adapter
from gpmt.core.layer_names import Neighbours, kind_by_name, role_by_name
from gpmt.core.roles import Role
from gpmt.core.tensor_count import TensorCount
from gpmt.formats.arrays import Array, CodedArray

_FLOATS = ("float64", "float32", "float16", "bfloat16")
_PIECE = 1 << 20  # values at a time, which are whole blocks of coded masks

Arrays = Mapping[str, Array | CodedArray]


def prunable(arrays: Arrays) -> dict[str, str]:
    """Return the names that `gpmt.find_scope` takes by default from a state_dict of these, each with its kind."""
    found, neighbours = {}, Neighbours(arrays)
    for name, array in arrays.items():
        if array.dtype not in _FLOATS or array.ndim < 2 or not array.numel or in_adapter(name, {}):
            continue
        if role_by_name(name, array, neighbours) == Role.LAYER:
            found[name] = kind_by_name(name.rpartition(".")[2], array)
    return found


def count_array(name: str, kind: str, array: Array | CodedArray) -> TensorCount:
    """Count the weights of an array that are not zero, and its outputs that have any, piece by piece."""
    outputs = array.shape[0]
    live, kept, not_finite, start = np.zeros(outputs, np.bool_), 0, 0, 0
    for piece in array.pieces(_PIECE):
        not_zero = np.flatnonzero(piece)
        kept += not_zero.size
        not_finite += piece.size - int(np.isfinite(piece).sum())
        live[(not_zero + start) // (array.numel // outputs)] = True
        start += piece.size
    return TensorCount(name, kind, array.shape, array.numel, kept, not_finite, outputs, int(live.sum()))
