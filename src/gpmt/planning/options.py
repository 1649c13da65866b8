"""The options of a plan that `gpmt.plan`, `gpmt.prune_` and `gpmt.Pruner` share."""

from __future__ import annotations

from typing import TypedDict

from gpmt.core.patterns import Patterns
from gpmt.core.structure import Granularity


class PlanOptions(TypedDict, total=False):
    """The arguments of `gpmt.plan` besides target and sparsity; its docstring explains them."""

    scope: Patterns | None
    exclude: Patterns | None
    min_kept: int | str
    allocation: str
    granularity: Granularity
    seed: int
