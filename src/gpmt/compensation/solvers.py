"""New values for the kept weights of one layer, so that its outputs stay near those of the dense weights.

Both solvers make tr(δ H δᵀ) small, δ = new - old and H = 2XXᵀ/n + λI, where the columns of X are the n inputs of
calibration: the mean squared difference of the outputs, with λ against overfitting. Everything is float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

AFFORDABLE = 1e11
"""Multiplications of `exact` for one layer, a few seconds on two cores."""
_ELEMENTS = 1 << 22
"""Of the matrices that `exact` factorises together."""
COLUMNS = 128
"""Columns that are updated one by one before those behind them are, all at once."""


def damped(gram: Tensor, positions: int, damping: float) -> Tensor:
    """Return H of XXᵀ, [blocks, inputs, inputs]: damping is λ as a share of the mean of the diagonal.

    An input that is always zero gets 1 on the diagonal, which joins it to nothing.
    """
    hessian = gram * (2 / positions)
    diagonal = hessian.diagonal(dim1=-2, dim2=-1)
    dead = diagonal == 0
    diagonal += damping * diagonal.mean(-1, keepdim=True)
    diagonal[dead] = 1.0
    return hessian


def sparsegpt(weights: Tensor, kept: Tensor, hessian: Tensor) -> Tensor:
    """Return new weights: the solver of SparseGPT (Frantar & Alistarh 2023, algorithm 1), with given masks.

    Columns are fixed from the first to the last. What is pruned of a column, divided by the diagonal of the Cholesky
    factor of the inverse of H, is taken from all columns behind it, in the direction of optimal brain surgeon. It
    costs as much as a few products of the layer's matrices. But no weight makes up for what is pruned behind it, and
    what a weight took over is lost where that is pruned too, so that little is gained at high sparsities.

    Args:
        weights: float64 [blocks, outputs, inputs].
        kept: bool of the same shape.
        hessian: of `damped`, [blocks, inputs, inputs].

    Raises:
        torch.linalg.LinAlgError: H is not positive definite.
    """
    factor = _factor_of_inverse(hessian)
    new = weights.clone()
    for start in range(0, weights.shape[-1], COLUMNS):
        columns = new[..., start : start + COLUMNS]
        rows = factor[:, start : start + COLUMNS]
        errors = torch.zeros_like(columns)
        for i in range(columns.shape[-1]):
            pruned = torch.where(kept[..., start + i], 0.0, columns[..., i])
            errors[..., i] = pruned / rows[:, i, start + i, None]
            behind = rows[:, i, start + i + 1 : start + COLUMNS]
            columns[..., i + 1 :] -= errors[..., i, None] * behind[:, None]
        new[..., start + COLUMNS :] -= errors @ rows[..., start + COLUMNS :]
    return torch.where(kept, new, 0.0)


def exact(weights: Tensor, kept: Tensor, hessian: Tensor) -> Tensor:
    """Return the best weights: for each output, the least squares on the weights that it keeps.

    Takes and raises what `sparsegpt` does. An output that keeps k weights costs k³/3 multiplications.
    """
    new = torch.where(kept, weights, 0.0)
    cause = (weights - new) @ hessian
    counts = kept.sum(-1).flatten()
    rows = counts.argsort(stable=True)
    for some in _together(rows, counts[rows].tolist()):
        block, output = some // kept.shape[1], some % kept.shape[1]
        keep = kept[block, output]
        # The positions of the kept weights; where others keep more, some pruned ones behind, which join nothing.
        here = keep.to(torch.uint8).argsort(descending=True, stable=True)[:, : int(keep.sum(-1).max())]
        extra = ~keep.gather(1, here)
        matrices = hessian[block[:, None, None], here[:, :, None], here[:, None]]
        matrices[extra[:, :, None] | extra[:, None]] = 0.0
        matrices.diagonal(dim1=1, dim2=2)[extra] = 1.0
        wanted = cause[block, output].gather(1, here).masked_fill_(extra, 0.0)
        change = torch.cholesky_solve(wanted[..., None], torch.linalg.cholesky(matrices))[..., 0]
        new[block, output] = new[block, output].scatter_add(1, here, change)
    return torch.where(kept, new, 0.0)


def _together(rows: Tensor, counts: list[int]) -> Iterator[Tensor]:
    """Divide rows, in the order of how many weights they keep, so that their matrices take little memory."""
    end = len(counts)
    while end and counts[end - 1]:
        start = max(0, end - max(1, _ELEMENTS // counts[end - 1] ** 2))
        yield rows[start:end]
        end = start


def cheapest_good(weights: Tensor, kept: Tensor, hessian: Tensor) -> Tensor:
    """Return what `exact` does where that takes no more than seconds, else what `sparsegpt` does."""
    count = kept.sum(-1, dtype=torch.float64)
    solve = exact if float(count.pow(3).sum()) / 3 <= AFFORDABLE else sparsegpt
    return solve(weights, kept, hessian)


SOLVERS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "auto": cheapest_good,
    "sparsegpt": sparsegpt,
    "exact": exact,
}
"""The solvers by the names that users give."""


def _factor_of_inverse(hessian: Tensor) -> Tensor:
    """Return the upper triangular U with UᵀU = H⁻¹.

    The Cholesky factor L of H with rows and columns in reverse is, reversed again, an upper V with VVᵀ = H; U = V⁻¹.
    """
    upper = torch.linalg.cholesky(hessian.flip(-2, -1)).flip(-2, -1)
    identity = torch.eye(hessian.shape[-1], dtype=hessian.dtype, device=hessian.device)
    factor: Tensor = torch.linalg.solve_triangular(upper, identity.expand_as(upper), upper=True)
    return factor
