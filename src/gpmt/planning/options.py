"""The options of a plan that `gpmt.plan`, `gpmt.prune_` and `gpmt.Pruner` share."""

from __future__ import annotations

from typing import TypedDict

from gpmt.core.patterns import Patterns
from gpmt.core.structure import Granularity


class PlanOptions(TypedDict, total=False):
    """What `gpmt.plan` takes besides the target and the sparsity; its docstring says what each means."""

    scope: Patterns | None
    exclude: Patterns
    min_kept: int | str
    allocation: str
    granularity: Granularity
    seed: int
