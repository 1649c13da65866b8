"""Plans over blocks, groups, floors and comparison groups, against a full sort."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.oracle import keep
from torch import nn

import gpmt
from gpmt.core.blocks.blocks import WHOLE, Blocks, Split
from gpmt.errors import BudgetError
from gpmt.planning.decide import check_request, decide

VALUES = st.sampled_from([0.0, -0.0, 0.5, -0.5, 1.0, -2.0, 3.0]) | st.floats(-10, 10, width=16)


@st.composite
def divided_tensors(draw):
    """Small tensors with many ties, and blocks of some of them."""
    tensors, blocks = {}, {}
    for index in range(draw(st.integers(1, 3))):
        name, shape, splits = f"t{index}.weight", [], []
        for dim in range(2):
            parts = tuple(draw(st.lists(st.integers(1, 2), min_size=1, max_size=3)))
            repeats = draw(st.integers(1, 2))
            shape.append(repeats * sum(parts))
            if draw(st.booleans()):
                splits.append(Split(dim, parts, repeats=repeats))
        size = shape[0] * shape[1]
        values = draw(st.lists(VALUES, min_size=size, max_size=size))
        tensors[name] = torch.tensor(values).view(shape)
        if splits:
            blocks[name] = Blocks(tuple(splits))
    return tensors, blocks


def slow(tensors, blocks, *, groups, floors):
    """Masks by sorting every group, given the groups as lists of places of blocks: the obvious way."""
    views = [
        view for name, tensor in tensors.items() for view in blocks.get(name, WHOLE).views(tensor.double())
    ]
    masks = {name: torch.zeros(tensor.shape, dtype=torch.bool) for name, tensor in tensors.items()}
    mask_views = [view for name, mask in masks.items() for view in blocks.get(name, WHOLE).views(mask)]
    for places, total in groups:
        kept = keep(
            [views[place].flatten().numpy() for place in places],
            total=total,
            floors=[floors[place] for place in places],
        )
        for place, bits in zip(places, kept, strict=True):
            mask_views[place].copy_(torch.from_numpy(bits).view(mask_views[place].shape))
    return masks


@settings(max_examples=200)
@given(divided_tensors(), st.data())
def test_masks_are_those_of_a_full_sort_of_every_group(made, data):
    tensors, blocks = made
    names = [block for name in tensors for block in blocks.get(name, WHOLE).names(name)]
    owners = [name for name in tensors for _ in blocks.get(name, WHOLE).names(name)]
    sizes = [
        view.numel() for name, tensor in tensors.items() for view in blocks.get(name, WHOLE).views(tensor)
    ]
    within = data.draw(st.sampled_from(["network", "tensor"]))
    first = data.draw(st.sampled_from(list(tensors)))
    budget = data.draw(
        st.sampled_from([{"*": 30}, {f"{first}*": 50, "*": 70}] if len(tensors) > 1 else [{"*": 40}])
    )
    minimum = data.draw(st.integers(0, 4))
    least = data.draw(st.sampled_from([minimum, {names[0]: minimum}, f"{minimum}0% of tensor"]))
    floors = [
        -(-minimum * size // 10)
        if isinstance(least, str)
        else min(minimum, size)
        if not isinstance(least, dict) or name == names[0]
        else 0
        for name, size in zip(names, sizes, strict=True)
    ]
    rules = {}
    for place, (name, owner) in enumerate(zip(names, owners, strict=True)):
        key = next(key for key in budget if key == "*" or name.startswith(first))
        rules.setdefault((key, owner if within == "tensor" else None), []).append(place)
    groups = []
    for (key, _), places in rules.items():
        numel = sum(sizes[place] for place in places)
        groups.append((places, numel - numel * budget[key] // 100))
    request = {"*": f"{budget['*']}%"} if len(budget) == 1 else {k: f"{v}%" for k, v in budget.items()}
    arguments = {"min_kept": least, "blocks": blocks, "within": within}
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    if any(sum(floors[place] for place in places) > total for places, total in groups):
        for function in (lambda: decide(tensors, [request], **arguments),):
            with pytest.raises(BudgetError, match="but the minimum of"):
                function()
        with pytest.raises(BudgetError, match="but the minimum of"):
            check_request(tensors, sparsity=request, **arguments)
        return
    check_request(tensors, sparsity=request, **arguments)
    [plan] = decide(tensors, [request], **arguments)
    expected = slow(tensors, blocks, groups=groups, floors=floors)
    masks = plan.masks()
    assert all(torch.equal(masks[name], expected[name]) for name in tensors)
    assert [block.name for block in plan.blocks] == names
    assert [block.floor for block in plan.blocks] == floors
    kept = [
        int(view.sum()) for name, mask in expected.items() for view in blocks.get(name, WHOLE).views(mask)
    ]
    assert [block.kept for block in plan.blocks] == kept
    assert sorted(group.kept for group in plan.groups) == sorted(total for _, total in groups)
    assert all(torch.equal(tensor, before[name]) for name, tensor in tensors.items())


@settings(max_examples=50)
@given(divided_tensors(), st.integers(0, 99), st.sampled_from([torch.float64, torch.bfloat16]))
def test_without_floors_blocks_change_nothing_but_the_order_of_ties(made, percent, dtype):
    tensors, blocks = made
    tensors = {name: tensor.to(dtype) for name, tensor in tensors.items()}
    [plan] = decide(tensors, [f"{percent}%"], blocks=blocks)
    [plain] = decide(tensors, [f"{percent}%"])
    assert (plan.kept, plan.threshold) == (plain.kept, plain.threshold)
    for name, tensor in tensors.items():
        values = [tensor.abs()[each.masks()[name]].double().sort().values for each in (plan, plain)]
        if plan.threshold is not None:
            values = [kept[kept > plan.threshold] for kept in values]
        assert torch.equal(*values)


def test_queries_do_not_collapse_inside_a_fused_projection():
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(64, 4)
    with torch.no_grad():
        attention.in_proj_weight[:64] *= 1e-3
    thirds = Blocks((Split.equal(0, 192, ("q", "k", "v")),))
    plan = gpmt.prune_(attention, sparsity=0.8, min_kept=100, blocks={"in_proj_weight": thirds})
    assert plan.pruned == 16_384 * 8 // 10
    assert next((block.name, block.kept, block.binds) for block in plan.blocks) == (
        "in_proj_weight.q",
        100,
        True,
    )
    assert int(attention.in_proj_weight[:64].count_nonzero()) == 100


def test_several_budgets_that_share_their_groups():
    tensors = {"a.weight": torch.randn(20, 10), "b.weight": torch.randn(10, 10)}
    wanted = [0.5, {"a": 0.25, "*": 0.9}, 0.9, {"a": 0.75, "*": 0.5}]
    plans = decide(tensors, wanted)
    assert [plan.pruned for plan in plans] == [150, 140, 270, 200]
    assert [
        plan.masks() == decide(tensors, [one])[0].masks() for plan, one in zip(plans, wanted, strict=True)
    ]
    assert [(group.label, group.numel, group.kept) for group in plans[1].groups] == [
        ("a", 200, 150),
        ("*", 100, 10),
    ]
    assert plans[1].threshold is None
    assert float(plans[1].sparsity) == pytest.approx(140 / 300)


def test_an_automatic_minimum_is_a_number_for_each_sparsity():
    tensors = {"a.weight": torch.linspace(1, 2, 2000).view(40, 50), "b.weight": torch.full((20, 50), 0.01)}
    plans = decide(tensors, [0.9, 0.98], min_kept="auto")
    assert [plan.min_kept for plan in plans] == [60, 22]  # 4 % of 1,500, and 3/4 of 30
    assert [plan.masks() for plan in plans] == [
        gpmt.plan(tensors, sparsity=sparsity, min_kept=minimum).masks()
        for sparsity, minimum in ((0.9, 60), (0.98, 22))
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sparsity": {"a": 0.5}}, r'no pattern of sparsity matches b.weight; add "\*" for the rest'),
        ({"sparsity": {}}, "sparsity is an empty mapping"),
        ({"sparsity": {"*": 2}}, "sparsity is 2, but must be at least 0"),
        ({"sparsity": {"*": 0.5, "b": 0.5}}, "only what belongs to earlier patterns"),
        ({"sparsity": {"c": 0.5, "*": 0.5}}, "'c' of sparsity matches nothing"),
        (
            {"sparsity": {"a": 0.99, "*": 0.5}, "min_kept": 3},
            r"sparsity 0.99 of a keeps 2 of 200 weights, but the",
        ),
        ({"sparsity": 0.5, "within": "layer"}, "within is 'layer', but must be one of network, tensor, row"),
        ({"sparsity": 0.98, "within": "tensor", "min_kept": 3}, "of b.weight keeps 2 of 100 weights"),
        (
            {"sparsity": 0.5, "min_kept": "5% of tensor", "allocation": "reference"},
            "has one min_kept for all",
        ),
        (
            {"sparsity": 0.5, "min_kept": {"*": "auto"}},
            r"of \* is \"auto\", which is one number for all; give",
        ),
        (
            {"sparsity": 0.5, "within": "row", "min_kept": "auto"},
            '"auto", but every row, or every M inputs, keeps',
        ),
        (
            {
                "sparsity": None,
                "max_macs": 0.5,
                "macs": {"a.weight": 200, "b.weight": 100},
                "min_kept": "auto",
            },
            'is "auto", which follows from a sparsity; give one, or a number',
        ),
    ],
)
def test_bad_requests_say_the_numbers_and_change_nothing(arguments, message):
    tensors = {"a.weight": torch.ones(20, 10), "b.weight": torch.ones(10, 10)}
    with pytest.raises(BudgetError, match=message):
        gpmt.prune_(tensors, **arguments)
    assert all(tensor.all() for tensor in tensors.values())


def test_the_whole_network_is_a_group_of_its_own():
    plan = gpmt.plan({"a.weight": torch.arange(1.0, 101).view(10, 10)}, sparsity=0.9)
    [group] = plan.groups
    assert (group.label, group.numel, group.kept, group.threshold) == (None, 100, 10, 91.0)
    assert np.isclose(plan.threshold, 91)
