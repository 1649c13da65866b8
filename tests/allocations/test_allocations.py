"""What holds for every allocation of the registry, and the registry itself."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gpmt
from gpmt import allocations
from gpmt.errors import BudgetError
from gpmt.planning.decide import decide

NAMES = allocations.names()
EXACT_TOTALS = [name for name in NAMES if allocations.find(name).exact_total]
BY_MAGNITUDE = [name for name in NAMES if name != "random"]


def test_the_names_are_those_of_the_files():
    assert {"erk", "exact", "lamp", "random", "reference", "uniform"} <= set(NAMES)
    assert [type(allocations.find(name)).__module__ for name in NAMES] == [
        f"gpmt.allocations.{name}" for name in NAMES
    ]
    assert [name for name in NAMES if name not in EXACT_TOTALS] == ["reference"]


@pytest.mark.parametrize("allocation", EXACT_TOTALS)
@settings(max_examples=25)
@given(parts=st.integers(0, 999), min_kept=st.integers(0, 60))
def test_totals_are_exact_and_floors_are_kept(network, allocation, parts, min_kept):
    sparsity = Fraction(parts, 1000)
    try:
        [plan] = decide(network, [sparsity], min_kept=min_kept, allocation=allocation)
    except BudgetError as error:
        assert "ask for a sparsity of at most" in str(error)  # noqa: PT017
        return
    masks = plan.masks()
    assert plan.pruned == masks.total_pruned == plan.numel * parts // 1000
    for row in plan.tensors:
        assert min(row.numel, min_kept) <= row.kept == masks.kept(row.name) <= row.numel


@pytest.mark.parametrize("allocation", BY_MAGNITUDE)
def test_within_a_tensor_the_largest_magnitudes_stay(network, allocation):
    masks = gpmt.plan(network, sparsity=0.8, min_kept=20, allocation=allocation).masks()
    for name, weight in network.items():
        kept, pruned = weight[masks[name]].abs(), weight[~masks[name]].abs()
        assert not len(pruned) or not len(kept) or kept.min() >= pruned.max()


def test_an_unknown_allocation_lists_the_known(network):
    with pytest.raises(BudgetError, match=r"allocation is 'magic', but must be one of .*exact, .*uniform"):
        gpmt.plan(network, sparsity=0.5, allocation="magic")


@pytest.mark.parametrize("allocation", NAMES)
def test_an_infeasible_minimum_fails_before_any_weight_is_read(network, allocation):
    unread = {name: weight.to("meta") for name, weight in network.items()}
    with pytest.raises(BudgetError, match=r"needs 360 .* ask for a sparsity of at most 0\.9601"):
        gpmt.plan(unread, sparsity=0.99, min_kept=72, allocation=allocation)
