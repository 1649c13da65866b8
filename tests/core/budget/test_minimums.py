import pytest

from gpmt.core.budget.first_match import Named
from gpmt.core.budget.minimums import Minimums
from gpmt.errors import BudgetError

BLOCKS = [Named("a.weight", ("a.weight",), "Linear"), Named("b.weight", ("b.weight",), "Linear")]


@pytest.mark.parametrize(
    ("value", "floors", "one", "text"),
    [
        (50, [50, 20], 50, "50"),
        ("10%", [102, 20], 102, "102"),
        ("5% of tensor", [50, 1], None, "5% of tensor"),
        ({"a": "1% of tensor", "*": 3}, [10, 3], None, "a 1% of tensor, * 3"),
        ({"b": "100% of tensor"}, [0, 20], None, "b 100% of tensor"),
        (0, [0, 0], 0, "0"),
    ],
)
def test_floors_of_numbers_shares_and_mappings(value, floors, one, text):
    minimums = Minimums.parse(value, total=1020)
    assert (minimums.floors(BLOCKS, [1000, 20]), minimums.one, str(minimums)) == (floors, one, text)
    assert bool(minimums) == any(floors)


@pytest.mark.parametrize(
    "value", ["5 of tensor", "101% of tensor", "x% of tensor", {}, {"a": -1}, {"a": None}, {"a": "auto"}]
)
def test_what_is_no_minimum_is_refused(value):
    with pytest.raises(BudgetError, match=r"^min_kept (of a )?is "):
        Minimums.parse(value, total=100)
