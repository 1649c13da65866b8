"""Rows, channels and vectors of four: plans over blocks, groups and floors, against a full sort."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import gpmt
from gpmt.core.blocks.blocks import WHOLE, Blocks, Split
from gpmt.core.layers.axes import Axes
from gpmt.core.units.registry import UNITS
from gpmt.errors import BudgetError, ScopeError
from gpmt.planning.decide import decide
from gpmt.verification import verify
from tests.core.oracle import keep

GRANULARITIES = ["row", "channel", "1x4"]
ATTENTION = Blocks((Split.equal(0, 6, ("q", "k", "v")),))


@st.composite
def networks(draw):
    """Small integers, so that sums tie often; some blocks, memory formats and types."""
    dtype = draw(st.sampled_from([torch.float32, torch.float64, torch.bfloat16]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    experts = draw(st.booleans())
    shapes = {
        "conv.weight": (draw(st.integers(1, 5)), draw(st.integers(1, 6)), 2, 2),
        "qkv.weight": (6, draw(st.integers(1, 9))),
        "experts.gate_up_proj": (2, 8, 3) if experts else (2, 3, 8),
        "experts.down_proj": (2, 3, 4) if experts else (2, 4, 3),
    }
    state = {
        name: torch.randint(-2, 3, shape, generator=generator).to(dtype) for name, shape in shapes.items()
    }
    if draw(st.booleans()):
        state["conv.weight"] = state["conv.weight"].to(memory_format=torch.channels_last)
    axes = Axes(1 if experts else 2, stacked=True)
    return state, {"experts.gate_up_proj": axes, "experts.down_proj": axes}


def expected_masks(state, axes, blocks, granularity, groups, floors):
    """Sums by the unit's own test, masks by a full sort of each group of blocks."""
    unit = UNITS[granularity]
    views = {
        name: (view, axes.get(name.partition("[")[0], Axes()))
        for tensor in state
        for name, view in zip(
            blocks.get(tensor, WHOLE).names(tensor),
            blocks.get(tensor, WHOLE).views(state[tensor]),
            strict=True,
        )
    }
    masks = {name: torch.zeros(tensor.shape, dtype=torch.bool) for name, tensor in state.items()}
    places = {
        name: view
        for tensor in state
        for name, view in zip(
            blocks.get(tensor, WHOLE).names(tensor),
            blocks.get(tensor, WHOLE).views(masks[tensor]),
            strict=True,
        )
    }
    kept = {}
    for names, total in groups:
        sums = [unit.values(name, views[name][1], views[name][0]).numpy() for name in names]
        for name, bits in zip(names, keep(sums, total=total, floors=[floors[n] for n in names]), strict=True):
            kept[name] = int(bits.sum())
            shape = tuple(places[name].shape)
            places[name].copy_(unit.spread(torch.from_numpy(bits), views[name][1], shape))
    return masks, kept


@pytest.mark.parametrize("granularity", GRANULARITIES)
@settings(max_examples=25)
@given(made=networks(), data=st.data())
def test_masks_are_those_of_a_full_sort_of_the_units(granularity, made, data):
    state, axes = made
    blocks = {"qkv.weight": ATTENTION}
    found = gpmt.find_scope(state, blocks=blocks)
    assert {name: found.axes[name] for name in axes} == axes
    blocks = found.blocks
    assert blocks["experts.gate_up_proj"].names("x") == ["x[0].gate", "x[0].up", "x[1].gate", "x[1].up"]
    unit, sizes = UNITS[granularity], {}
    for tensor, weight in state.items():
        division = blocks.get(tensor, WHOLE)
        for name, shape in zip(division.names(tensor), division.shapes(weight.shape), strict=True):
            sizes[name] = unit.count(axes.get(tensor, Axes()), shape)
    minimum = data.draw(st.integers(0, 3))
    floors = {name: min(minimum, size) for name, size in sizes.items()}
    shares = data.draw(st.sampled_from([{"*": 30}, {"experts.*": 60, "*": 20}]))
    groups = []
    for pattern, share in shares.items():
        names = [n for n in sizes if len(shares) == 1 or n.startswith("experts") == (pattern != "*")]
        numel = sum(sizes[name] for name in names)
        groups.append((names, numel - numel * share // 100))
    request = {pattern: f"{share}%" for pattern, share in shares.items()}
    request = request if len(request) > 1 else request["*"]
    options = {"min_kept": minimum, "blocks": {"qkv.weight": ATTENTION}, "granularity": granularity}
    if any(sum(floors[name] for name in names) > total for names, total in groups):
        with pytest.raises(BudgetError, match=rf"of [\d,]+ {unit.plural}, but the minimum of"):
            decide(state, [request], **options)
        return
    [plan] = decide(state, [request], **options)
    masks, kept = expected_masks(state, axes, blocks, granularity, groups, floors)
    assert {block.name: (block.numel, block.kept, block.floor) for block in plan.blocks} == {
        name: (sizes[name], kept[name], floors[name]) for name in sizes
    }
    assert all(torch.equal(plan.masks()[name], mask) for name, mask in masks.items())


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("allocation", ["uniform", "lamp", "random"])
def test_every_allocation_is_exact_in_units(granularity, allocation):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(6, 8, 3), nn.Conv2d(8, 5, 3), nn.Linear(10, 12))
    plan = gpmt.prune_(model, sparsity=0.4, allocation=allocation, granularity=granularity, min_kept=1)
    assert plan.pruned == plan.numel * 4 // 10
    result = verify(model, sparsity=0.4, granularity=granularity, min_kept=1, masks=plan.masks())
    assert result, str(result)
    assert [row.numel for row in result.tensors] == [row.numel for row in plan.tensors]
    assert verify(model, sparsity=0.4, granularity=granularity, min_kept=1)


def test_filters_of_every_kind_of_layer():
    torch.manual_seed(0)
    model = nn.ModuleDict(
        {
            "conv": nn.Conv2d(4, 6, 3),
            "depthwise": nn.Conv2d(6, 6, 3, groups=6),
            "up": nn.ConvTranspose2d(6, 4, 2),
            "cell": nn.LSTM(3, 5),
            "bilinear": nn.Bilinear(2, 3, 4),
            "one": nn.Linear(1, 1),
        }
    )
    rows = gpmt.plan(model, sparsity=0.5, granularity="row", min_kept=1)
    assert [row.numel for row in rows.tensors] == [6, 6, 4, 20, 20, 4, 1]
    channels = gpmt.plan(model, sparsity=0.3, granularity="channel", min_kept=1)
    gates = 4
    assert [row.numel for row in channels.tensors] == [4, 1, 6, gates * 3, gates * 5, 2, 1]
    up = rows.masks()["up.weight"]
    assert all(up[:, output].all() or not up[:, output].any() for output in range(4))


def test_tokens_of_an_embedding_that_is_asked_for():
    model = nn.Embedding(6, 4)
    with torch.no_grad():
        model.weight[2] *= 1e-3
        model.weight[5] *= 1e-3
    plan = gpmt.prune_(model, sparsity="1/3", granularity="row", scope="weight")
    assert plan.masks()["weight"].any(1).tolist() == [True, True, False, True, True, False]
    assert (model.weight == 0).all(1).tolist() == [False, False, True, False, False, True]


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_memory_formats_do_not_change_masks(granularity):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(6, 9, 3), nn.Conv2d(9, 5, 3))
    options = {"sparsity": 0.5, "granularity": granularity, "min_kept": 1}
    masks = gpmt.plan(model, **options).masks()
    assert gpmt.plan(model.to(memory_format=torch.channels_last), **options).masks() == masks


@pytest.mark.parametrize(
    ("keywords", "error", "text"),
    [
        ({"allocation": "erk"}, BudgetError, r'allocation "erk" shares single weights .* granularity "row"'),
        ({"sparsity": 0.9, "min_kept": 2}, BudgetError, r"keeps 1 of 6 rows, but the minimum of 2 in each"),
        ({"min_kept": "few"}, BudgetError, "whole number of rows such as"),
    ],
)
def test_requests_that_cannot_be_met(keywords, error, text):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(4, 2))
    with pytest.raises(error, match=text):
        gpmt.prune_(model, **{"sparsity": 0.5, "granularity": "row"} | keywords)
    assert model[0].weight.all()


def test_experts_of_unknown_orientation_are_refused():
    state = {"experts.down_proj": torch.ones(2, 3, 3)}
    with pytest.raises(
        ScopeError, match=r"which dimension of experts.down_proj counts its outputs, so whole vec"
    ):
        gpmt.prune_(state, sparsity=0.5, granularity="1x4")
    assert gpmt.prune_(state, sparsity=0.5, min_kept=1).pruned == 9


def test_dead_layers_are_told_in_rows():
    state = {"a.weight": torch.ones(4, 3), "b.weight": torch.ones(4, 3) * 1e-3}
    with pytest.warns(
        gpmt.GpmtWarning, match=r"leaves no row in 1 of 2 tensors \(b.weight\); a min_kept of 1"
    ):
        plan = gpmt.plan(state, sparsity=0.5, granularity="row")
    assert "4 of 8 rows pruned (50.0000%)" in plan.summary()
    assert plan.to_dict()["rows"] == 8
