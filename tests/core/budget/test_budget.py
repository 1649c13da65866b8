from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gpmt.core.budget.budget import (
    check_feasible,
    exact_fraction,
    parse_min_kept,
    parse_sparsity,
    pruned_count,
)
from gpmt.errors import BudgetError


@pytest.mark.parametrize(
    ("value", "fraction"),
    [
        (0, Fraction(0)),
        (0.9, Fraction(9, 10)),
        (np.float64(0.953), Fraction(953, 1000)),
        ("0.9805", Fraction(9805, 10000)),
        ("98.05%", Fraction(9805, 10000)),
        (" 80 % ", Fraction(4, 5)),
        (Decimal("0.7"), Fraction(7, 10)),
        (Fraction(1, 3), Fraction(1, 3)),
        (1e-7, Fraction(1, 10**7)),
        (np.float32(0.9), Fraction(9, 10)),
        (np.float16(0.35), Fraction(35, 100)),
        (np.array(0.9, np.float32), Fraction(9, 10)),
        (torch.tensor(0.9), Fraction(9, 10)),
        (torch.tensor(0.9, dtype=torch.bfloat16), Fraction(9, 10)),
        (np.int64(0), Fraction(0)),
    ],
)
def test_a_ratio_is_read_by_its_decimal_meaning(value, fraction):
    assert exact_fraction(value) == fraction


@pytest.mark.parametrize(
    "value",
    [
        "",
        "%",
        "ninety",
        "nan",
        "inf",
        float("nan"),
        float("inf"),
        None,
        True,
        [0.9],
        "1/0",
        np.True_,
        torch.tensor(True),
        np.zeros(2),
        torch.zeros(2),
        np.float32("nan"),
        1j,
    ],
)
def test_a_value_that_is_not_a_number_is_refused(value):
    with pytest.raises(BudgetError, match=r"^sparsity is .*, but must be a number such as 0\.9"):
        exact_fraction(value)


@pytest.mark.parametrize("value", [-0.1, 1, 1.0, 1.5, "100%", "-5%", 90])
def test_a_sparsity_outside_its_range_is_refused(value):
    with pytest.raises(BudgetError, match=r"must be at least 0 and below 1"):
        parse_sparsity(value)


def test_a_percentage_without_its_sign_gets_a_hint():
    with pytest.raises(BudgetError, match=r'for 90 % give 0\.9 or "90%"'):
        parse_sparsity(90)


@given(st.integers(0, 99_999), st.integers(1, 10**12))
def test_the_pruned_count_has_no_float_error(parts, numel):
    assert pruned_count(parse_sparsity(parts / 100_000), numel) == parts * numel // 100_000


def test_the_count_that_float_arithmetic_gets_wrong():
    assert int(0.29 * 100) == 28  # what a float product gives
    assert pruned_count(parse_sparsity(0.29), 100) == 29


@pytest.mark.parametrize(
    ("value", "count"),
    [
        (0, 0),
        (12, 12),
        ("12", 12),
        (np.int64(7), 7),
        (torch.tensor(7), 7),
        ("0%", 0),
        ("0.05%", 12_751),
        ("100%", 25_502_912),
    ],
)
def test_min_kept_is_a_number_or_a_share_of_the_whole_network(value, count):
    assert parse_min_kept(value, 25_502_912) == count


@pytest.mark.parametrize(
    "value",
    [
        -1,
        0.5,
        "0.5",
        "many",
        None,
        True,
        "-3",
        np.float32(5),
        torch.tensor(5.0),
        np.True_,
        torch.tensor(True),
    ],
)
def test_a_min_kept_that_is_not_a_count_is_refused(value):
    with pytest.raises(BudgetError, match=r"^min_kept is .*, but must be a whole number of weights"):
        parse_min_kept(value, 100)


def test_a_share_above_all_is_refused():
    with pytest.raises(BudgetError, match=r"min_kept is '101%', but a share must lie between 0% and 100%"):
        parse_min_kept("101%", 100)


def test_an_infeasible_request_says_all_numbers():
    floors = {"stem": 80, "body": 80, "head": 50}
    with pytest.raises(BudgetError) as error:
        check_feasible(floors, numel=10_150, sparsity=Fraction(98, 100), minimum="80")
    assert str(error.value) == (
        "sparsity 0.98 keeps 203 of 10,150 weights, but the minimum of 80 in each of 3 tensors needs 210 "
        "(most: stem 80, body 80, head 50); ask for a sparsity of at most 0.9793 or a smaller min_kept"
    )


@given(
    st.lists(st.integers(1, 10**6), min_size=1, max_size=6),
    st.integers(1, 10**5),
    st.integers(0, 9999),
)
def test_the_largest_sparsity_that_the_error_names_is_feasible(sizes, min_kept, parts):
    floors = {f"t{i}": min(size, min_kept) for i, size in enumerate(sizes)}
    sparsity = Fraction(parts, 10_000)
    try:
        check_feasible(floors, numel=sum(sizes), sparsity=sparsity, minimum=str(min_kept))
    except BudgetError as error:
        largest = str(error).split("at most ")[1].split(" ")[0]
        assert Fraction(largest) < sparsity
        check_feasible(floors, numel=sum(sizes), sparsity=Fraction(largest), minimum=str(min_kept))
    else:
        assert sum(min(size, min_kept) for size in sizes) <= sum(sizes) - pruned_count(sparsity, sum(sizes))
