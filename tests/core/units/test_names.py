from typing import get_args

import pytest

from gpmt.core.units.names import PLURALS, Granularity, check_granularity
from gpmt.errors import BudgetError


def test_every_granularity_has_a_plural_of_its_own():
    assert tuple(PLURALS) == get_args(Granularity)
    assert len({*PLURALS.values()}) == len(PLURALS)
    assert all(plural.endswith("s") for plural in PLURALS.values())  # sentences take it away for a single one


def test_an_unknown_granularity_is_refused():
    text = "granularity is 'pixel', but must be one of weight, row, column, channel, 1x4"
    with pytest.raises(BudgetError, match=text):
        check_granularity("pixel")
