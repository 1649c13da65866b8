"""The units, by their granularity."""

from __future__ import annotations

from gpmt.core.units.channel import Channel
from gpmt.core.units.column import Column
from gpmt.core.units.names import check_granularity
from gpmt.core.units.row import Row
from gpmt.core.units.unit import Unit
from gpmt.core.units.vector import Vector
from gpmt.core.units.weight import Weight

UNITS: dict[str, Unit] = {unit.name: unit for unit in (Weight(), Row(), Column(), Channel(), Vector())}


def unit_of(granularity: str) -> Unit:
    """Return the unit of a granularity; raise `BudgetError` for an unknown one."""
    return UNITS[check_granularity(granularity)]
