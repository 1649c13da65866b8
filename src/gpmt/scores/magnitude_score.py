"""Magnitude scores: plain, or scaled by a number of each tensor."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from gpmt.core.keys.keys import flat_chunks
from gpmt.core.missing_data import check_has_data
from gpmt.core.patterns import Patterns
from gpmt.core.scope.scope import find_scope
from gpmt.core.shards import whole
from gpmt.errors import ScoresError

Scale = Literal["none", "norm", "dimensions"]

_CHUNK = 1 << 14
"""So few weights are summed by one thread, in one order."""


@torch.no_grad()
def magnitude(
    target: nn.Module | Mapping[str, Tensor],
    *,
    scale: Scale = "none",
    scope: Patterns | None = None,
    exclude: Patterns | None = (),
) -> dict[str, Tensor]:
    """Score every weight by |w| · c, with c a number of its tensor.

    "none": c = 1, which is how `gpmt.plan` ranks. "norm": c = 1 / ‖w‖₂ over the tensor, as NNCF's normed magnitude,
    so that layers with small weights are not pruned away. "dimensions": c = √(sum of the tensor's dimensions), as
    ST-3σ (Vanderschueren and De Vleeschouwer 2023), with which layers are pruned more evenly and fewer MACs are left.

    The norm is summed in float64 in a fixed order on the CPU, so that threads and devices do not change the
    ranking. A weight that weight_norm or spectral_norm computes is scored as it is used.

    Args:
        target: a network, or a mapping from names to tensors.
        scale: "none", "norm" or "dimensions".
        scope: patterns that choose the tensors, as in `gpmt.find_scope`.
        exclude: patterns of tensors to leave out.

    Returns:
        name -> scores in the shape of the weight, float32 (float64 for float64 weights), on its device.

    Raises:
        ScoresError: an unknown scale.
        ScopeError, WeightsError: as from `gpmt.find_scope`; weights without data.

    >>> weights = {"a.weight": torch.tensor([[3.0, -4.0]]), "b.weight": torch.tensor([[0.3, 0.4]])}
    >>> magnitude(weights, scale="norm")
    {'a.weight': tensor([[0.6000, 0.8000]]), 'b.weight': tensor([[0.6000, 0.8000]])}
    >>> magnitude({"a.weight": torch.ones(1, 8)}, scale="dimensions")
    {'a.weight': tensor([[3., 3., 3., 3., 3., 3., 3., 3.]])}
    """
    if scale not in get_args(Scale):
        raise ScoresError(f'scale is {scale!r}, but must be one of "none", "norm" and "dimensions"')
    found = find_scope(target, scope=scope, exclude=exclude, shared=True)
    check_has_data(found.tensors)
    scores = {}
    for name, tensor in found.tensors.items():
        weight = whole(tensor).detach()
        if name in found.effective:
            weight = found.effective[name].weight(weight)
        score = weight.to(torch.promote_types(weight.dtype, torch.float32), copy=True).abs_()
        scores[name] = score if scale == "none" else score.mul_(_factor(weight, scale))
    return scores


def _factor(weight: Tensor, scale: Scale) -> float:
    if scale == "dimensions":
        return math.sqrt(sum(weight.shape))
    parts = (chunk.to("cpu", torch.float64) for chunk in flat_chunks(weight, _CHUNK))
    norm = math.sqrt(math.fsum(float(part.square().sum()) for part in parts))
    return 1 / norm if norm else 0.0
