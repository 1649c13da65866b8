from fractions import Fraction
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpmt.core.budget.minimum import Minimum, automatic_minimum
from gpmt.errors import BudgetError


@given(st.integers(0, 10_000), st.integers(0, 10**7))
def test_a_share_of_a_tensor_is_at_least_that_share(parts, size):
    floor = Minimum.parse(f"{parts / 100}% of tensor", total=1).floor(size)
    assert floor == ceil(Fraction(parts, 10_000) * size) <= size


@pytest.mark.parametrize("value", ["5 of tensor", "101% of tensor", "x% of tensor", -1, None])
def test_what_is_no_minimum_is_refused(value):
    with pytest.raises(BudgetError, match=r"^min_kept is "):
        Minimum.parse(value, total=100)


@given(st.data())
def test_the_automatic_minimum_is_the_largest_within_its_two_shares(data):
    numel, blocks = data.draw(st.integers(1, 10**9)), data.draw(st.integers(1, 1000))
    kept = data.draw(st.integers(0, numel))
    limit = min(Fraction(4, 100) * numel, Fraction(3, 4) * kept)
    minimum = automatic_minimum(numel, kept, blocks)
    assert blocks * minimum <= limit < blocks * (minimum + 1)


def test_auto_is_the_number_that_is_told():
    assert Minimum.parse(" auto", total=10_000, auto=7) == Minimum(7)
    assert Minimum.parse("auto", total=10_000) == Minimum(0)
