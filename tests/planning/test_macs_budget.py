"""Budgets in MACs against brute force over all numbers of weights."""

from fractions import Fraction
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import gpmt
from gpmt.errors import BudgetError, ScopeError
from gpmt.macs import count_macs
from gpmt.planning.decide import decide
from gpmt.planning.macs_budget import MacsProblem, parse_max_macs


@st.composite
def networks(draw):
    """Up to 3 small tensors with MACs a weight of 0 to 9, floors and distinct or tied magnitudes."""
    values = st.integers(0, 6) | st.integers(0, 10_000)
    tensors, macs = {}, {}
    for index in range(draw(st.integers(1, 3))):
        row = draw(st.lists(values, min_size=1, max_size=6))
        tensors[f"t{index}.weight"] = torch.tensor([row], dtype=torch.float32)
        macs[f"t{index}.weight"] = draw(st.integers(0, 9)) * len(row)
    return tensors, macs


def best(tensors, macs, *, budget, minimum, total=None):
    """The largest sum of magnitudes over all numbers of weights that fit: the slow way. None where nothing fits."""
    ranked = [sorted(tensor.abs().flatten().tolist(), reverse=True) for tensor in tensors.values()]
    prices = [Fraction(cost, len(row)) for cost, row in zip(macs.values(), ranked, strict=True)]
    sums = [
        sum(sum(row[:kept]) for row, kept in zip(ranked, counts, strict=True))
        for counts in product(*(range(min(minimum, len(row)), len(row) + 1) for row in ranked))
        if (total is None or sum(counts) == total)
        and sum(price * kept for price, kept in zip(prices, counts, strict=True)) <= budget
    ]
    return max(sums, default=None)


@settings(max_examples=150)
@given(networks(), st.integers(0, 60), st.integers(0, 2), st.none() | st.integers(0, 99))
def test_what_is_kept_is_as_near_to_the_optimum_as_is_told(made, budget, minimum, percent):
    tensors, macs = made
    numel = sum(tensor.numel() for tensor in tensors.values())
    sparsity = None if percent is None else f"{percent}%"
    total = None if percent is None else numel - numel * percent // 100
    floors = sum(min(minimum, tensor.numel()) for tensor in tensors.values())
    optimum = (
        None
        if total is not None and floors > total
        else best(tensors, macs, budget=budget, minimum=minimum, total=total)
    )
    if optimum is None:
        with pytest.raises(BudgetError):
            decide(tensors, [sparsity], min_kept=minimum, max_macs=budget, macs=macs)
        return
    [plan] = decide(tensors, [sparsity], min_kept=minimum, max_macs=budget, macs=macs)
    masks = plan.masks()
    kept = sum(float(tensor[masks[name]].sum()) for name, tensor in tensors.items())
    cost = sum(
        Fraction(macs[name] * int(masks[name].sum()), tensor.numel()) for name, tensor in tensors.items()
    )
    assert cost <= budget
    assert plan.macs.kept == -(-cost.numerator // cost.denominator)
    assert all(masks.kept(name) >= min(minimum, tensor.numel()) for name, tensor in tensors.items())
    assert total is None or plan.kept == total
    assert optimum - kept <= plan.macs.gap + 1e-6 * max(1.0, optimum)
    for name, tensor in tensors.items():  # the largest of every tensor
        assert (
            tensor[masks[name]].sum()
            == tensor.flatten().sort(descending=True).values[: masks.kept(name)].sum()
        )


def test_without_ties_fewer_macs_are_left_than_one_weight_takes():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.Flatten(), nn.Linear(16 * 36, 10))
    macs = count_macs(model, (3, 8, 8))
    dearest = max(
        Fraction(macs[name], weight.numel()) for name, weight in model.named_parameters() if name in macs
    )
    for sparsity in (None, 0.5):
        plan = gpmt.plan(model, sparsity=sparsity, max_macs="20%", macs=(3, 8, 8), min_kept=20)
        assert 0 <= plan.macs.budget - plan.macs.kept <= dearest
        assert plan.macs.budget == sum(macs.values()) // 5
        assert 0 <= plan.macs.gap < plan.macs.price * float(dearest) + 1e-9
    assert plan.pruned == plan.numel // 2
    assert "MACs of at most" in str(plan)
    assert plan.to_dict()["macs"]["budget"] == plan.macs.budget


def test_a_budget_that_is_not_reached_changes_nothing():
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    plan = gpmt.plan(model, sparsity=0.5, max_macs="100%", macs=(8,))
    assert plan.masks() == gpmt.plan(model, sparsity=0.5).masks()
    assert (plan.macs.price, plan.macs.gap) == (0, 0)
    assert gpmt.plan(model, max_macs="100%", macs=(8,)).pruned == 0


def test_squares_as_scores_have_another_optimum():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.Flatten(), nn.Linear(8 * 36, 10))
    squares = {name: weight.detach() ** 2 for name, weight in model.named_parameters() if weight.ndim > 1}
    plain, squared = (
        gpmt.plan(model, max_macs="20%", macs=(1, 8, 8), min_kept=9, scores=scores)
        for scores in (None, squares)
    )
    assert plain.masks() != squared.masks()


@pytest.mark.parametrize(("value", "count"), [("10%", 123), (7, 7), ("12", 12), ("0%", 0), ("100%", 1234)])
def test_a_budget_is_a_number_or_a_share(value, count):
    assert parse_max_macs(value, 1234) == count


@pytest.mark.parametrize("value", ["101%", -1, 0.5, "x", True, None, "-3"])
def test_what_is_no_budget_is_refused(value):
    with pytest.raises(BudgetError, match=r"^max_macs is "):
        parse_max_macs(value, 100)


WEIGHTS = {"a.weight": torch.ones(2, 5), "b.weight": torch.ones(2, 5)}
MACS = {"a.weight": 100, "b.weight": 10}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"max_macs": 9, "min_kept": 1},
            r"allows 9 of 110 MACs, but the minimums need 11; raise max_macs or lower",
        ),
        (
            {"max_macs": 18, "sparsity": 0.4},
            r"but the cheapest 12 weights with the minimums need 30; raise max_macs",
        ),
        ({"max_macs": 5, "macs": None}, "max_macs needs the MACs of every tensor"),
        ({"max_macs": 5, "macs": {"a.weight": 3}}, "the MACs of b.weight are not known"),
        ({"max_macs": 5, "macs": (3, 8, 8)}, "no network is known to count the MACs with"),
        ({"max_macs": 5, "within": "tensor"}, "cannot be combined with within 'tensor'"),
        ({"max_macs": 5, "allocation": "erk"}, "cannot be combined with allocation 'erk'"),
        ({"max_macs": 5, "granularity": "column"}, "cannot be combined with granularity 'column'"),
        ({"max_macs": 5, "sparsity": {"*": 0.5}}, "cannot be combined with a mapping of sparsities"),
        (
            {"max_macs": 5, "scores": {name: -weight for name, weight in WEIGHTS.items()}},
            "some scores are negative",
        ),
        ({}, "there is no sparsity; give one, such as sparsity=0.9, or max_macs"),
    ],
)
def test_bad_requests_say_the_numbers_and_change_nothing(options, message):
    weights = {name: weight.clone() for name, weight in WEIGHTS.items()}
    with pytest.raises(BudgetError, match=message):
        gpmt.prune_(weights, **({"macs": MACS} | options))
    assert all(weight.all() for weight in weights.values())


def test_a_pruner_refuses_a_budget_that_its_last_event_cannot_meet():
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = gpmt.OneShot(0.5, at=1)
    with pytest.raises(BudgetError, match="max_macs allows 63 of 128 MACs, but the cheapest 64 weights"):
        gpmt.Pruner(model, optimizer, schedule=schedule, max_macs=63, macs=(8,))
    pruner = gpmt.Pruner(model, optimizer, schedule=schedule, max_macs="50%", macs=(8,))
    model(torch.ones(1, 8)).sum().backward()
    optimizer.step()
    assert pruner.plan.macs.kept == 64


def test_macs_are_counted_in_the_scope_that_is_asked_for():
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 4))
    plan = gpmt.plan(model, scope="1", max_macs="50%", macs=(8,))
    assert (plan.macs.dense, plan.macs.budget, plan.kept) == (32, 16, 16)


def test_a_reparametrised_weight_has_no_budget_in_macs():
    model = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
    with pytest.raises(ScopeError, match="is reparametrised, and max_macs ranks plain weights only"):
        gpmt.plan(model, max_macs="50%", macs={"parametrizations.weight.original1": 16})


def test_costs_are_exact():
    problem = MacsProblem(["a"], [torch.ones(3)], True, [Fraction(10)], [0], 7)
    assert problem.cost([2]) == Fraction(20, 3)
