from gpmt.core.units.names import PLURALS
from gpmt.core.units.registry import UNITS


def test_a_unit_counts_what_its_name_says():
    assert {name: unit.plural for name, unit in UNITS.items()} == PLURALS
