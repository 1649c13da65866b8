"""Columns: their scores and masks against a full sort, and the published configurations of FastGRNN."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import gpmt
from gpmt.core.layers.axes import Axes
from gpmt.core.units.column import Column
from gpmt.errors import BudgetError, ScopeError, WeightsError
from gpmt.planning.decide import decide
from gpmt.training.models.fastgrnn import FastGRNN
from tests.core.oracle import keep

ALLOCATIONS = ["exact", "uniform", "lamp", "random"]


class Cell(nn.Module):
    """Two factors of 9 and 80 columns, as FastGRNN has them, and what must be left alone."""

    def __init__(self, seed: int = 0, first: float = 1.0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.W1 = nn.Parameter(first * torch.rand(9, 9, generator=generator))
        self.U1 = nn.Parameter(torch.rand(9, 80, generator=generator))
        self.bias_gate = nn.Parameter(torch.ones(1, 80))
        self.alpha = nn.Parameter(torch.ones(()))


def network(**keywords) -> nn.Module:
    return nn.ModuleDict({"cell": Cell(**keywords), "head": nn.Linear(80, 2)})


FACTORS = {"scope": ["*.W1", "*.U1"], "granularity": "column"}

matrices = st.lists(st.tuples(st.integers(1, 7), st.integers(1, 12)), min_size=1, max_size=5)


def draw_matrices(shapes, seed):
    """Small integers, so that sums tie often; some columns are all zero."""
    random = np.random.default_rng(seed)
    values = [random.integers(-2, 3, shape) * random.integers(0, 2, shape[1]) for shape in shapes]
    return {f"t{i}.weight": torch.from_numpy(matrix).float() for i, matrix in enumerate(values)}


@settings(max_examples=150)
@given(matrices, st.integers(0, 10_000), st.integers(0, 99), st.integers(0, 5))
def test_masks_are_those_of_a_full_sort_of_the_columns(shapes, seed, percent, min_kept):
    state = draw_matrices(shapes, seed)
    sums = [np.abs(matrix.numpy()).sum(axis=0) for matrix in state.values()]
    columns = sum(map(len, sums))
    floors = [min(len(part), min_kept) for part in sums]
    total = columns - columns * percent // 100
    if sum(floors) > total:
        with pytest.raises(BudgetError, match=rf"of {columns} columns, but the minimum of {min_kept}"):
            gpmt.plan(state, sparsity=f"{percent}%", min_kept=min_kept, granularity="column")
        return
    [plan] = decide(state, [f"{percent}%"], min_kept=min_kept, granularity="column")
    expected = keep(sums, total=total, floors=floors)
    assert (plan.numel, plan.kept) == (columns, total)
    masks = plan.masks()
    for row, (name, matrix), wanted in zip(plan.tensors, state.items(), expected, strict=True):
        assert masks[name].shape == matrix.shape
        assert all(line.tolist() == wanted.tolist() for line in masks[name])
        assert (row.numel, row.kept) == (len(wanted), int(wanted.sum()))


@pytest.mark.parametrize("allocation", ALLOCATIONS)
@settings(max_examples=25)
@given(matrices, st.integers(0, 10_000), st.integers(0, 99))
def test_every_allocation_is_exact_in_columns_and_keeps_whole_ones(allocation, shapes, seed, percent):
    state = draw_matrices(shapes, seed)
    [plan] = decide(state, [f"{percent}%"], allocation=allocation, granularity="column")
    assert plan.pruned == sum(columns for _, columns in shapes) * percent // 100
    for row, mask in zip(plan.tensors, plan.masks().values(), strict=True):
        assert torch.equal(mask.all(dim=0), mask.any(dim=0))
        assert int(mask[0].sum()) == row.kept


def test_the_allocation_reference_ranks_columns_too():
    state = {
        "a.weight": torch.tensor([[4.0, 1.0, 3.0, 2.0]]),
        "b.weight": torch.tensor([[8.0, 5.0, 6.0, 7.0]]),
    }
    plan = gpmt.plan(state, sparsity=0.5, allocation="reference", granularity="column")
    assert [row.kept for row in plan.tensors] == [1, 4]  # k − 1 pruned, as in the scripts


@pytest.mark.parametrize(
    ("kept", "min_kept", "first", "counts"),
    [
        (17, 8, 100, (9, 8)),
        (17, 8, 0.01, (8, 9)),
        (16, 7, 100, (9, 7)),
        (15, 7, 100, (8, 7)),
        (15, 7, 0.01, (7, 8)),
    ],
)
def test_the_published_ranks_of_fastgrnn(kept, min_kept, first, counts):
    sparsity = Fraction(89 - kept, 89)
    model = network(first=first)
    bias, head = model["cell"].bias_gate.clone(), model["head"].weight.clone()
    plan = gpmt.prune_(model, sparsity=sparsity, min_kept=min_kept, **FACTORS)
    assert [row.name for row in plan.tensors] == ["cell.W1", "cell.U1"]
    assert (plan.numel, plan.kept, plan.unit) == (89, kept, "columns")
    assert tuple(row.kept for row in plan.tensors) == counts
    assert (Column().live(Axes(), model["cell"].W1), Column().live(Axes(), model["cell"].U1)) == counts
    assert torch.equal(model["cell"].bias_gate, bias)
    assert torch.equal(model["head"].weight, head)
    assert gpmt.verify(model, sparsity=sparsity, min_kept=min_kept, masks=plan.masks(), **FACTORS)


def test_without_its_pruned_columns_fastgrnn_has_a_lower_rank():
    torch.manual_seed(0)
    model = FastGRNN(num_classes=2, input_shape=(5, 9))
    with torch.no_grad():
        model.W1.weight.mul_(10)
    plan = gpmt.prune_(model, sparsity=Fraction(72, 89), min_kept=8, scope=["W1", "U1"], granularity="column")
    assert [row.kept for row in plan.tensors] == [9, 8]
    state, columns = model.state_dict(), plan.masks()["U1.weight"][0]
    state["U1.weight"], state["U2.weight"] = state["U1.weight"][:, columns], state["U2.weight"][columns]
    smaller = FastGRNN(num_classes=2, input_shape=(5, 9), u_rank=8)
    smaller.load_state_dict(state)
    series = torch.randn(4, 5, 9)
    torch.testing.assert_close(smaller(series), model(series))


def test_a_minimum_in_percent_is_of_all_columns():
    plan = gpmt.plan(network(), sparsity=0.5, min_kept="10%", **FACTORS)
    assert (plan.min_kept, [row.floor for row in plan.tensors]) == (8, [8, 8])


def test_pruned_columns_come_first_when_going_on():
    model = network()
    first = gpmt.prune_(model, sparsity=0.4, min_kept=2, **FACTORS).masks()
    again = gpmt.prune_(model, sparsity=0.4, min_kept=2, **FACTORS).masks()
    assert gpmt.plan(model, sparsity=0.8, min_kept=2, **FACTORS).masks() <= first == again


def test_several_sparsities_share_the_sums():
    model, wanted = network(), [0.2, 0.5, Fraction(72, 89)]
    plans = gpmt.plan(model, sparsity=wanted, min_kept=3, **FACTORS)
    alone = [gpmt.plan(model, sparsity=sparsity, min_kept=3, **FACTORS) for sparsity in wanted]
    assert [plan.masks() for plan in plans] == [plan.masks() for plan in alone]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_columns_that_are_not_finite_are_refused_and_nothing_is_changed(value):
    model = network()
    with torch.no_grad():
        model["cell"].U1[0, :3] = value
    text = r"cell\.U1 has 3 of 80 columns whose sum is NaN or infinite, and cannot be ranked; repair"
    with pytest.raises(WeightsError, match=text):
        gpmt.prune_(model, sparsity=0.5, **FACTORS)
    assert model["cell"].W1.all()


def test_weights_without_data_are_refused():
    with pytest.raises(WeightsError, match=r"^cell\.W1 has no data \(it is on the meta device\)"):
        gpmt.plan(network().to("meta"), sparsity=0.5, **FACTORS)


def test_weights_changed_after_planning_are_noticed():
    model = network()
    plan = gpmt.plan(model, sparsity=0.5, **FACTORS)
    with torch.no_grad():
        model["cell"].U1.mul_(2)
    with pytest.raises(WeightsError, match=r"the weights of cell\.U1 have changed .*; plan again"):
        plan.masks()


@pytest.mark.parametrize(
    ("keywords", "error", "text"),
    [
        ({"granularity": "pixel"}, BudgetError, "granularity is 'pixel', but must be one of weight, row"),
        (
            {"granularity": "column", "allocation": "erk"},
            BudgetError,
            r'allocation "erk" shares single weights .* no meaning for granularity "column"',
        ),
        (
            {"granularity": "column", "exclude": "0", "min_kept": "few"},
            BudgetError,
            "whole number of columns such",
        ),
        (
            {"granularity": "column"},
            ScopeError,
            r"0\.weight has 4 dimensions, but whole columns are pruned of matrices only; exclude it, or choose",
        ),
    ],
)
def test_requests_that_cannot_be_met(keywords, error, text):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(4, 2))
    with pytest.raises(error, match=text):
        gpmt.prune_(model, sparsity=0.5, **keywords)
    assert model[0].weight.all()
    assert gpmt.prune_(model, sparsity=0.5, granularity="column", exclude="0").pruned == 2


def test_the_plan_says_columns():
    plan = gpmt.plan(network(), sparsity=Fraction(72, 89), min_kept=8, **FACTORS)
    assert str(plan).splitlines()[0].split() == ["tensor", "shape", "columns", "kept", "density"]
    assert plan.summary().startswith(
        "72 of 89 columns pruned (80.8989%), 67.4298% of the whole network, global"
    )
    data = plan.to_dict()
    assert (data["granularity"], data["columns"], data["kept"]) == ("column", 89, 17)
    assert [row["columns"] for row in data["tensors"]] == [9, 80]
    assert not {"weights"} & {*data, *data["tensors"][0]}
    assert gpmt.plan(network(), sparsity=0.5).to_dict()["granularity"] == "weight"
