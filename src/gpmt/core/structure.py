"""Granularity: pruning single weights, or whole columns of matrices.

A column (an index along the last dimension) ranks by the sum of its magnitudes. With one vector of sums for
each matrix in place of its weights, everything else is as for single weights: totals, floors, allocations, ties in
the order of the tensors and then of the columns. Only the masks are spread over the rows again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from gpmt.core.keys import CHUNK
from gpmt.core.missing_data import check_has_data
from gpmt.errors import BudgetError, ScopeError, WeightsError

Granularity = Literal["weight", "column"]


def counted(granularity: Granularity) -> str:
    """Return what sparsities, minimums and totals count: "weights" or "columns".

    Raises `BudgetError` for an unknown granularity.
    """
    if granularity not in get_args(Granularity):
        raise BudgetError(
            f"granularity is {granularity!r}, but must be one of {', '.join(get_args(Granularity))}"
        )
    return f"{granularity}s"


def column_scores(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the sum of |w| over each column of each matrix: float64 [columns], by name.

    The rows are added one by one from the first to the last, in float64 on the CPU, so that the sums are the
    same to the last bit on every device and for every memory format.

    Raises `ScopeError` for a tensor that is not a matrix, `WeightsError` for one without data, and for NaN or
    infinite sums.

    >>> column_scores({"W1": torch.tensor([[1.0, -2.0], [0.5, 0.0]])})
    {'W1': tensor([1.5000, 2.0000], dtype=torch.float64)}
    """
    check_matrices(tensors)
    return {name: _column_sums(name, matrix.detach()) for name, matrix in tensors.items()}


def live_columns(matrix: Tensor) -> int:
    """Count the columns that are not all zero (NaN is not zero), with chunks of a bounded size."""
    live = torch.zeros(matrix.shape[1], dtype=torch.bool, device=matrix.device)
    for rows in _row_chunks(matrix.detach()):
        live |= rows.ne(0).any(dim=0)
    return int(live.count_nonzero())


def spread(packed: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Turn one bit a column into one bit a weight, both packed as in `Masks`.

    >>> spread(torch.tensor([0b101], dtype=torch.uint8), (2, 3))  # 101 101, the first column is the lowest bit
    tensor([45], dtype=torch.uint8)
    """
    columns = np.unpackbits(packed.numpy(), count=shape[1], bitorder="little")
    return torch.from_numpy(np.packbits(np.broadcast_to(columns, shape), bitorder="little"))


def check_matrices(tensors: Mapping[str, Tensor]) -> None:
    """Raise `ScopeError`, naming the first, unless all tensors have two dimensions."""
    for name, tensor in tensors.items():
        if tensor.ndim != 2:
            raise ScopeError(
                f"{name} has {tensor.ndim} dimensions, but whole columns are pruned of matrices only; exclude it, "
                "or choose matrices with scope"
            )


def _column_sums(name: str, matrix: Tensor) -> Tensor:
    check_has_data({name: matrix})
    sums = np.zeros(matrix.shape[1])
    with np.errstate(over="ignore"):  # refused below
        for rows in _row_chunks(matrix):
            for row in rows.cpu().double().abs().numpy():
                sums += row
    if bad := int((~np.isfinite(sums)).sum()):
        raise WeightsError(
            f"{name} has {bad:,} of {len(sums):,} columns whose sum is NaN or infinite, and cannot be ranked; "
            "repair the checkpoint or exclude the tensor"
        )
    return torch.from_numpy(sums)


def _row_chunks(matrix: Tensor) -> tuple[Tensor, ...]:
    return torch.split(matrix, max(1, CHUNK // max(1, matrix.shape[1])))
