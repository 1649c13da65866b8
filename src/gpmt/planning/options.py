"""The options of a plan that `gpmt.plan`, `gpmt.prune_` and `gpmt.Pruner` share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict

from gpmt.core.blocks.blocks import BlockRule
from gpmt.core.budget.minimums import MinKept
from gpmt.core.patterns import Patterns
from gpmt.core.units.names import Granularity
from gpmt.planning.groups import Within
from gpmt.planning.macs_budget import Macs, MaxMacs
from gpmt.planning.scoring import Scores


class PlanOptions(TypedDict, total=False):
    """The arguments of `gpmt.plan` besides target and sparsity; its docstring explains them."""

    scope: Patterns | None
    exclude: Patterns | None
    blocks: Mapping[str, BlockRule] | None
    min_kept: MinKept
    within: Within
    allocation: str
    granularity: Granularity
    seed: int
    pattern: str | None
    scores: Scores | None
    max_macs: MaxMacs | None
    macs: Macs | None
