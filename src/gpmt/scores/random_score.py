"""Random scores: the baseline that every other score should beat."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from gpmt.allocations.random import random_bits
from gpmt.core.blocks.blocks import WHOLE
from gpmt.core.missing_data import check_has_data
from gpmt.core.patterns import Patterns
from gpmt.core.scope.scope import find_scope
from gpmt.core.shards import is_shared

_CHUNK = 1 << 17


def random(
    target: nn.Module | Mapping[str, Tensor],
    *,
    seed: int = 0,
    scope: Patterns | None = None,
    exclude: Patterns | None = (),
) -> dict[str, Tensor]:
    """Score every weight by a random number, uniform in [0, 1).

    The numbers depend on the seed, the place of the block in the scope and that of the weight in the block alone:
    they are the same on every device, and those by which ``allocation="random"`` ranks with this seed.

    Args:
        target: a network, or a mapping from names to tensors.
        seed: any integer.
        scope: patterns that choose the tensors, as in `gpmt.find_scope`.
        exclude: patterns of tensors to leave out.

    Returns:
        name -> scores in the shape of the weight, float64, on its device.

    Raises:
        ScopeError, WeightsError: as from `gpmt.find_scope`; weights without data.

    >>> scores = random({"a.weight": torch.zeros(2, 3)}, seed=7)["a.weight"]
    >>> scores.shape, bool(((scores >= 0) & (scores < 1)).all())
    (torch.Size([2, 3]), True)
    """
    found = find_scope(target, scope=scope, exclude=exclude, shared=True)
    check_has_data(found.tensors)
    scores, number = {}, 0
    for name, tensor in found.tensors.items():
        score = torch.empty(tensor.shape, dtype=torch.float64, device="cpu")
        for block in found.blocks.get(name, WHOLE).views(score):
            block.copy_(_uniform(seed, number, block.numel()).view(block.shape))
            number += 1
        scores[name] = score.to("cpu" if is_shared(tensor) else tensor.device)
    return scores


def _uniform(seed: int, number: int, length: int) -> Tensor:
    values = torch.empty(length, dtype=torch.float64, device="cpu")
    for start in range(0, length, _CHUNK):
        end = min(start + _CHUNK, length)
        values[start:end] = random_bits(seed, number, start, end)
    return values.div_(1 << 31)
