"""The settings of CrAM, by which a recipe trains its dense network for one-shot pruning."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, PlainValidator

from gpmt.core.budget.budget import parse_sparsity
from gpmt.training.recipes.section import Section

Sparsity = Annotated[float | int | str, PlainValidator(lambda value: _parsed(value))]


class Cram(Section):
    """Dense training by `gpmt.CrAM`: every step also computes the gradient of a pruned network.

    `sparsities` are those to draw from, by default 0.5, 0.7 and 0.9, or that of a pattern; `rho` is how far along the
    gradient the weights move first. What is pruned, and the minimum, are as in `prune`. ``cram: true`` takes the
    defaults.
    """

    sparsities: tuple[Sparsity, ...] | None = Field(None, min_length=1)
    rho: float = Field(0.05, ge=0)


def from_bool(value: Any) -> Any:
    """Return the settings that true and false stand for; anything else as it is."""
    return {True: {}, False: None}[value] if isinstance(value, bool) else value


def _parsed(value: Any) -> Any:
    parse_sparsity(value)
    return value
