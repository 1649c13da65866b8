import pytest
import torch

from gpmt.core.scope.scope import find_scope
from gpmt.core.units.registry import unit_of
from gpmt.errors import BudgetError, ScopeError
from gpmt.planning.case import Case
from gpmt.planning.items import items_of
from gpmt.planning.request import Request

WEIGHTS = {"a.weight": torch.arange(8.0).view(2, 4), "b.weight": torch.ones(1, 2)}


def case(sparsities, **options):
    request = Request(sparsities, **options)
    found = request.find_scope(WEIGHTS)
    return Case(request, found, items_of(found, request.unit, least={}))


def test_floors_and_groups_of_a_network():
    made = case([0.5, {"a": 0.25, "*": 0}], min_kept={"a": "50% of tensor"})
    assert made.floors == [4, 0]
    assert [[group.places for group in division] for division in made.divisions] == [[(0, 1)], [(0,), (1,)]]
    sources, key_format = made.keys()
    [whole] = made.divisions[0]
    [selection] = made.select(whole, [whole.sparsity], sources, key_format)
    assert [cut.kept for cut in selection.cuts] == [5, 0]


def test_floors_that_do_not_fit_are_refused_before_anything_is_read():
    with pytest.raises(
        BudgetError, match=r"sparsity 0\.8 keeps 2 of 10 weights, but the minimum of 2 in each of 2"
    ):
        case([0.8], min_kept=2)


def test_nothing_to_rank_is_refused():
    request = Request([0.5])
    found = find_scope({"a.weight": torch.ones(2, 2)})
    found.tensors["a.weight"] = torch.ones(0, 2)
    with pytest.raises(ScopeError, match="the scope holds no tensor with elements"):
        Case(request, found, items_of(found, unit_of("weight"), least={}))


def test_macs_are_shared_by_the_weights_of_a_tensor():
    problem = case(
        [None], max_macs="50%", macs={"a.weight": 80, "b.weight": 4}, blocks={"a.weight": 2}
    ).macs_problem()
    assert (problem.names, [int(macs) for macs in problem.macs], problem.budget) == (
        ["a.weight[0]", "a.weight[1]", "b.weight"],
        [40, 40, 4],
        42,
    )
