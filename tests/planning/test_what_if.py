"""What would come of several sparsities, against plans made one by one."""

import json
import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.networks import small_network
from tests.planning.plans import THIRDS, weights
from torch import nn

import gpmt
from gpmt.errors import BudgetError
from gpmt.macs import count_macs
from gpmt.planning.decide import decide
from gpmt.planning.what_if import what_if


@settings(max_examples=15)
@given(st.data())
def test_the_minimum_is_the_smallest_that_keeps_the_share_in_every_block(data):
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 1000)))
    sizes = data.draw(st.lists(st.integers(1, 40), min_size=1, max_size=5))
    scales = data.draw(st.lists(st.integers(0, 3), min_size=len(sizes), max_size=len(sizes)))
    state = {
        f"l{i}.weight": torch.randint(1, 9, (2, size), generator=generator) * 4.0**scale
        for i, (size, scale) in enumerate(zip(sizes, scales, strict=True))
    }
    share = data.draw(st.sampled_from([Fraction(1, 100), Fraction(1, 10), Fraction(1, 4)]))
    wanted = data.draw(st.lists(st.integers(0, 97), min_size=1, max_size=3, unique=True))
    budgets = [f"{percent}%" for percent in sorted(wanted)]
    within = data.draw(st.sampled_from(["network", "tensor"]))
    table = what_if(state, budgets, at_least=share, within=within)
    for budget, row in zip(budgets, table.rows, strict=True):
        smallest = None
        for minimum in range(2 * max(sizes) + 1):
            try:
                [plan] = decide(state, [budget], min_kept=minimum, within=within)
            except BudgetError:
                break
            if all(block.kept >= math.ceil(share * block.numel) for block in plan.blocks):
                smallest = minimum
                break
        assert row.min_kept == smallest


def test_rows_are_those_of_plans_made_one_by_one():
    network = small_network()
    table = gpmt.what_if(network, ["30%", 0.9, 0.99], macs=(3, 4, 4), at_least=0.1)
    counts = count_macs(network, (3, 4, 4))
    assert [row.sparsity for row in table.rows] == [Fraction(3, 10), Fraction(9, 10), Fraction(99, 100)]
    assert table.dense_macs == sum(counts.values())
    for row in table.rows:
        [plan] = decide(network, [row.sparsity])
        assert row.plan.to_dict() == plan.to_dict()
        assert row.macs == sum(counts[each.name] * each.kept // each.numel for each in plan.tensors)
        assert row.empty == tuple(block.name for block in plan.blocks if not block.kept)
    assert table.rows[2].min_kept is None  # 5 weights are less than a tenth of 536


def test_the_first_block_to_lose_all_comes_first():
    state = {
        f"{name}.weight": torch.full((5, 10), scale) for name, scale in (("a", 2.0), ("b", 1.0), ("c", 3.0))
    }
    table = what_if(state, ["35%", "70%"])
    assert [row.empty for row in table.rows] == [("b.weight",), ("b.weight", "a.weight")]


def test_blocks_and_minimums():
    table = what_if(weights(), ["90%"], min_kept=2, blocks={"attn.qkv.weight": THIRDS}, at_least="5%")
    [row] = table.rows
    assert len(row.plan.blocks) == 4
    assert row.binding == sum(block.binds for block in row.plan.blocks)
    assert row.empty == ()
    data = json.loads(json.dumps(table.to_dict()))
    assert (data["weights"], data["blocks"], data["min_kept"], data["at_least"]) == (100, 4, 2, 0.05)
    assert data["rows"][0]["kept"] == 10


def test_the_usual_sparsities_go_as_far_as_the_minimum_has_room():
    assert [float(row.sparsity) for row in what_if(weights()).rows] == [
        0.5,
        0.6,
        0.7,
        0.8,
        0.9,
        0.95,
        0.98,
        0.99,
    ]
    assert [float(row.sparsity) for row in what_if(weights(), min_kept=5).rows] == [0.5, 0.6, 0.7, 0.8, 0.9]
    with pytest.raises(BudgetError, match=r"sparsity 0\.95 keeps 5 of 100 weights, but the minimum of 5"):
        what_if(weights(), [0.95], min_kept=5)
    with pytest.raises(BudgetError, match=r"sparsity 0\.5 keeps 50 of 100 weights, but the minimum of 40"):
        what_if(weights(), min_kept=40)


def test_other_allocations_tell_no_minimum():
    assert what_if(weights(), [0.9], allocation="uniform").rows[0].min_kept is None
    assert what_if(weights(), [0.5], within="row").rows[0].min_kept is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"at_least": 0}, "^at_least is 0, but must be a share above 0"),
        ({"at_least": "x"}, "^at_least is 'x', but must be a number"),
        ({"sparsities": []}, "^sparsities is empty"),
        ({"sparsities": [1.5]}, r"^sparsity is 1\.5, but must be at least 0"),
        ({"max_macs": "10%", "macs": {}}, "^what_if compares sparsities, so max_macs has no meaning"),
        (
            {"paths": torch.zeros(1, 8)},
            "^paths is an input, but a state_dict has no network to follow it through",
        ),
        ({"pattern": "2:4"}, "^what_if compares sparsities, so pattern has no meaning"),
        ({"macs": (3, 4, 4)}, "^macs is an input, but no network is known to count the MACs with"),
    ],
)
def test_requests_that_have_no_answer(options, message):
    with pytest.raises(BudgetError, match=message):
        what_if(weights(), **options)


def test_nothing_is_changed():
    layer = nn.Linear(8, 8)
    before = layer.weight.detach().clone()
    what_if(layer)
    assert torch.equal(layer.weight, before)


def test_paths_are_followed_where_an_input_is_given():
    network, example = small_network(), torch.zeros(1, 3, 4, 4)
    table = what_if(network, [0.5, 0.99], paths=example)
    for row in table.rows:
        expected = gpmt.effective_sparsity(network, example, masks=row.plan.masks()).sparsity
        assert row.effective == row.to_dict()["effective_sparsity"] == expected
        assert row.effective >= row.plan.pruned / row.plan.numel
    assert table.rows[1].effective > table.rows[1].plan.pruned / table.rows[1].plan.numel
