"""RIA scores: a weight's share of its row and of its column, times the root of the norm of the input."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from gpmt.calibration.applications import laid_out_like
from gpmt.calibration.layer_inputs import LayerInputs, survey_scope
from gpmt.core.blocks.blocks import WHOLE, Blocks
from gpmt.core.patterns import Patterns

POWER = 0.5
"""The power of the norm, a, which the authors use throughout."""


def ria(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    scope: Patterns | None = None,
    exclude: Patterns | None = (),
) -> dict[str, Tensor]:
    """Score every weight by (|w_ij| / Σ_k |w_kj| + |w_ij| / Σ_k |w_ik|) · ‖x_j‖₂^½.

    Relative importance and activations, from Zhang et al. 2024 (Plug-and-Play, ICLR; there with any power a of the
    norm, which they set to ½). They rank within a tensor: prune with ``within="tensor"``. The sums are over the
    outputs and over the inputs of one layer, of a tensor of several layers (queries, keys and values; experts) of
    each layer by itself, and of a convolution within its groups.

    Arguments, result, errors and warnings are those of `gpmt.scores.wanda`, and so is what counts as an input.

    >>> import torch
    >>> layer = nn.Linear(2, 2, bias=False)
    >>> _ = layer.weight.data.copy_(torch.tensor([[3.0, -1.0], [1.0, 0.0]]))
    >>> ria(layer, [torch.tensor([[1.0, 4.0]])])
    {'weight': tensor([[1.5000, 2.5000],
            [1.2500, 0.0000]])}
    """
    found, layers = survey_scope(model, batches, scope, exclude)
    return {
        name: _scores(weight.detach(), layers[name], found.blocks.get(name, WHOLE))
        for name, weight in found.tensors.items()
    }


def _scores(weight: Tensor, layer: LayerInputs, blocks: Blocks) -> Tensor:
    norms = layer.norms(weight)
    sizes = laid_out_like(weight, norms.dtype).copy_(weight).abs_()
    block = laid_out_like(weight, torch.int32)
    for number, view in enumerate(blocks.views(block)):
        view.fill_(number)
    shares = torch.zeros_like(sizes)
    for part in layer.squares:
        size, its, share = (part.of(tensor) for tensor in (sizes, block, shares))
        inputs, total = tuple(range(2, size.ndim)), torch.zeros_like(size)
        for number in torch.unique(its).tolist():
            own = torch.where(its == number, size, 0)
            total += _of(own, own.sum(1, keepdim=True)) + _of(own, own.sum(inputs, keepdim=True))
        share.copy_(total)
    return (shares * norms.pow_(POWER)).contiguous()


def _of(sizes: Tensor, sums: Tensor) -> Tensor:
    """Return the shares of sums, 0 where a sum is 0."""
    return sizes / torch.where(sums > 0, sums, 1)
