"""Functions that shrink the kept weights of a block, so that a weight passes its threshold without a jump.

The threshold of a block is the largest float below the magnitude at which it is cut. So a weight that is kept and not
zero is not zero after it either, in any floating type, and zeros tell what is pruned.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from gpmt.core.keys.keys import KeyFormat, key_value
from gpmt.core.layers.axes import Axes
from gpmt.core.selection.select import Cut

_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def threshold_of(
    cut: Cut, numel: int, key_format: KeyFormat, dtype: torch.dtype, most: float = math.inf
) -> float:
    """Return the threshold t of a block that is cut so; 0 where all or none of its weights are kept.

    Args:
        cut: where the block is cut, by magnitude.
        numel: its number of weights.
        key_format: that of the cut.
        dtype: the type of the weights, which t is of too.
        most: a bound of t.

    >>> from gpmt.core.keys.keys import KEY32
    >>> cut = Cut(key=0x3F80_0000, ties=0, kept=3, binds=False)
    >>> threshold_of(cut, 4, KEY32, torch.float32), threshold_of(cut, 3, KEY32, torch.float32)
    (0.9999999403953552, 0.0)
    """
    if cut.kept in (0, numel):
        return 0.0
    return min(below(key_value(cut.key, key_format), dtype), below(most, dtype))


@lru_cache(maxsize=64)  # blocks share the threshold of their group
def below(limit: float, dtype: torch.dtype) -> float:
    """Return the largest number of a type that is below a limit of at least 0; 0 for the limit 0."""
    value = torch.tensor(limit, dtype=dtype, device="cpu")
    if limit > 0 and float(value) >= limit:
        value = (value.view(_INTEGERS[value.element_size()]) - 1).view(dtype)
    return float(value)


def in_loops(tensor: Tensor) -> bool:
    """Whether the loops of `core/soft/soft_loops.py` can read and write a tensor where it lies."""
    return (
        type(tensor.detach()) is Tensor
        and tensor.is_cpu
        and tensor.dtype == torch.float32
        and tensor.is_contiguous()
    )


def kept_by(weight: Tensor, cut: Cut, key_format: KeyFormat) -> Tensor:
    """Return which weights of a block a cut keeps: bool, in the block's shape, on its device.

    Those equal to the cut's key are kept as far as its `ties` go, in flat order.
    """
    if cut.kept in (0, weight.numel()):
        return torch.full_like(weight, bool(cut.kept), dtype=torch.bool)
    magnitudes = weight.abs()
    limit = key_value(cut.key, key_format)
    kept = magnitudes.to(key_format.dtype) >= limit
    if int(kept.sum()) > cut.kept:
        tied = (magnitudes.to(key_format.dtype) == limit).flatten()
        flat = kept.flatten() & ~tied
        flat[tied.nonzero().flatten()[: cut.ties]] = True
        kept = flat.view(weight.shape)
    return kept


def feather(weight: Tensor, kept: Tensor, threshold: float, power: float) -> Tensor:
    """Return sign(w) · (|w|^p − t^p)^(1/p) where weights are kept, +0.0 elsewhere (Feather, arXiv 2310.02448).

    >>> weight = torch.tensor([-2.0, 0.5, 1.0])
    >>> feather(weight, weight.abs() > 0.5, 0.5, 1.0)
    tensor([-1.5000,  0.0000,  0.5000])
    """
    if not threshold:
        return torch.where(kept, weight, 0)
    wide = weight if weight.element_size() > 2 else weight.float()
    magnitude = wide.abs()
    # (|w|^p − t^p)^(1/p) = |w| · (1 − (t / |w|)^p)^(1/p), which neither overflows nor underflows.
    over = (magnitude - threshold) / magnitude
    if power == 1:
        factor = over
    elif power == 2:
        factor = (over * (2 - over)).sqrt()
    elif power == 3:
        factor = (over * (3 - over * (3 - over))).pow(1 / 3)
    else:
        exact = -torch.expm1(power * torch.log1p(-over.double()))
        factor = exact.pow(1 / power).to(over.dtype)
    return torch.where(kept, wide * factor, 0).to(weight.dtype)


def soft(weight: Tensor, kept: Tensor, threshold: float, scale: Tensor | None) -> Tensor:
    """Return a · sign(w) · (|w| − t) where weights are kept, +0.0 elsewhere; `scale` is a, 1 where it is None.

    >>> weight = torch.tensor([-2.0, 0.5, 1.0])
    >>> soft(weight, weight.abs() > 0.5, 0.5, None)
    tensor([-1.5000,  0.0000,  0.5000])
    """
    wide = weight if weight.element_size() > 2 else weight.float()
    shrunk = torch.where(kept, wide - wide.sign() * threshold, 0)
    return (shrunk if scale is None else shrunk * scale).to(weight.dtype)


def rescaling(weight: Tensor, kept: Tensor, axes: Axes) -> Tensor:
    """Return 1.01 / (r + 0.01) for each output of a block, where r is the share of its magnitude that is kept.

    The sums are in float64 (ST-3, arXiv 2212.01076). The result has the block's dimensions.

    >>> weight = torch.tensor([[1.0, 3.0], [1.0, 1.0]])
    >>> rescaling(weight, weight > 1, Axes())
    tensor([[  1.3289],
            [101.0000]])
    """
    outputs = {axes.output, 0} if axes.stacked else {axes.output}
    summed = [dim for dim in range(weight.ndim) if dim not in outputs]
    magnitude = weight.abs().double()
    total = magnitude.sum(summed, keepdim=True)
    share = torch.where(kept, magnitude, 0).sum(summed, keepdim=True) / total
    return (1.01 / (torch.where(total > 0, share, 1) + 0.01)).to(
        weight if weight.element_size() > 2 else torch.float32
    )
