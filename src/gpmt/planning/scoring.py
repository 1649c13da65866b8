"""What ranks the weights where it is not their magnitude: scores, one tensor for each prunable tensor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gpmt.core.missing_data import check_has_data
from gpmt.core.scope.scope import Scope
from gpmt.core.shards import whole
from gpmt.errors import BudgetError, ScoresError
from gpmt.suggestions import close_names

Scores = Mapping[str, Tensor] | Callable[[Any], Mapping[str, Tensor]]
"""Name -> scores in the shape of the weight, or a function of the target that returns them."""

_DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def scores_of(scores: Scores, target: Any, found: Scope) -> dict[str, Tensor]:
    """Return the scores of every tensor in scope, whole; a function is called with the target.

    Raises `ScoresError` for scores that are missing, or of another shape, type or device than the weights, and for
    scores of a reparametrised weight.
    """
    if found.effective:
        raise ScoresError(
            f"{next(iter(found.effective))} is reparametrised, and scores rank plain weights only; exclude it, or "
            "make it plain"
        )
    given = scores(target) if callable(scores) else scores
    if not isinstance(given, Mapping):
        raise ScoresError(
            f"scores are of type {type(given).__name__}, but must be a mapping of names to tensors; read a file of "
            "them with gpmt.scores.load"
        )
    return {name: _score(given, name, weight, found) for name, weight in found.tensors.items()}


def _score(given: Mapping[str, Tensor], name: str, weight: Tensor, found: Scope) -> Tensor:
    stored = next((one for one in (name, *found.aliases.get(name, ())) if one in given), None)
    if stored is None:
        near = close_names(name, list(given))
        raise ScoresError(
            f"there are no scores of {name}{f' (but of {near[0]})' if near else ''}; give scores of every prunable "
            "tensor, or exclude it"
        )
    score = given[stored]
    if not isinstance(score, Tensor) or score.dtype not in _DTYPES:
        kind = score.dtype if isinstance(score, Tensor) else type(score).__name__
        raise ScoresError(
            f"the scores of {name} are {kind}, but must be a tensor of float64, float32, float16 or bfloat16"
        )
    check_has_data({f"the score of {name}": score}, ScoresError)
    score = whole(score.detach())
    if score.shape != weight.shape:
        raise ScoresError(
            f"the scores of {name} have the shape {list(score.shape)}, but the tensor has {list(weight.shape)}; give "
            "the scores of this network"
        )
    if score.device != weight.device:
        raise ScoresError(
            f"the scores of {name} are on {score.device}, but the tensor is on {weight.device}; move one of them"
        )
    return score


@dataclass(frozen=True)
class Infinite:
    """How many scores of a block are infinite: those of +inf always stay, those of −inf never do."""

    stay: int
    go: int

    @classmethod
    def of(cls, score: Tensor) -> Infinite:
        """Count the infinite scores of a block."""
        return cls(int(torch.isposinf(score).sum()), int(torch.isneginf(score).sum()))


def check_infinite(
    names: Sequence[str],
    sizes: Sequence[int],
    floors: Sequence[int],
    infinite: Sequence[Infinite],
    *,
    total: int,
    of: str = "",
) -> None:
    """Raise `BudgetError` where a total or floors contradict infinite scores.

    Args:
        names: the blocks of one group.
        sizes: their numbers of weights.
        floors: the numbers that they keep at least.
        infinite: how many of their scores are infinite.
        total: the number that the group keeps.
        of: which group of several it is, as errors say it.
    """
    for name, size, floor, one in zip(names, sizes, floors, infinite, strict=True):
        if floor > size - one.go:
            raise BudgetError(
                f"{name} has {one.go:,} scores of -inf, which are always pruned, among {size:,}, but a minimum of "
                f"{floor:,}; lower the minimum or change the scores"
            )
    go = sum(one.go for one in infinite)
    if total > sum(sizes) - go:
        raise BudgetError(
            f"{go:,} scores{of} are -inf, which are always pruned, but the sparsity prunes only "
            f"{sum(sizes) - total:,} of {sum(sizes):,} weights; raise the sparsity or change the scores"
        )
    needed = sum(max(floor, one.stay) for floor, one in zip(floors, infinite, strict=True))
    if needed > total:
        stay = sum(one.stay for one in infinite)
        raise BudgetError(
            f"{stay:,} scores{of} are inf, which always stay, and with the minimums {needed:,} weights have to, but "
            f"the sparsity keeps only {total:,} of {sum(sizes):,}; lower the sparsity or change the scores"
        )
