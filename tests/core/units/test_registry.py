import pytest

from gpmt.core.units.names import PLURALS
from gpmt.core.units.registry import UNITS, unit_of
from gpmt.errors import BudgetError


def test_every_granularity_has_its_unit():
    assert tuple(UNITS) == tuple(PLURALS)
    assert all(unit_of(name).name == name for name in UNITS)
    with pytest.raises(BudgetError, match="granularity is 'pixel'"):
        unit_of("pixel")
