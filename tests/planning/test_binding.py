"""Plans applied to networks: the same weights, others of the same structure, and other networks."""

import pytest
import torch
from tests.core.networks import small_network
from tests.planning.plans import divided_plan, weights
from torch import nn

import gpmt
from gpmt.errors import BudgetError, PlanError, WeightsError
from gpmt.planning.plan import Plan


def test_a_network_is_pruned_as_a_file_says(tmp_path):
    gpmt.plan(small_network(), sparsity=0.9, min_kept=5).save(tmp_path / "plan.json")
    network, expected = small_network(), small_network()
    gpmt.prune_(expected, sparsity=0.9, min_kept=5)
    for plan in (tmp_path / "plan.json", str(tmp_path / "plan.json"), Plan.load(tmp_path / "plan.json")):
        applied = gpmt.prune_(network, plan=plan)
        assert applied.notes == ()
        assert applied.masks().total_pruned == 482
        assert torch.equal(network[0].weight, expected[0].weight)
        assert torch.equal(network[4].weight, expected[4].weight)
        network = small_network()


def test_other_weights_keep_as_many_in_every_block_and_a_note_says_so():
    plan, others = divided_plan(), weights(seed=1)
    bound = plan.bound(others)
    assert [block.kept for block in bound.blocks] == [block.kept for block in plan.blocks]
    assert bound.notes == (
        "these are other weights than the plan was made of (in attn.qkv.weight.q and 2 more blocks); every block "
        "keeps as many as in the plan",
    )
    part, start = others["attn.qkv.weight"].abs(), 0
    for block in plan.blocks[:3]:
        rows, kept = part[start : start + 2], bound.masks()["attn.qkv.weight"][start : start + 2]
        assert int(kept.sum()) == block.kept
        assert rows[kept].min() >= rows[~kept].max()
        start += 2
    assert bound.to_dict()["notes"] == list(bound.notes)


def test_the_order_of_the_tensors_does_not_matter():
    plan = divided_plan(allocation="random", seed=3)
    state = dict(reversed(weights().items()))
    assert plan.bound(state).masks() == divided_plan(allocation="random", seed=3).masks()


def test_nothing_is_divided_that_the_plan_does_not_divide():
    attention = nn.MultiheadAttention(8, 2)
    plan = gpmt.plan(attention, sparsity=0.5, blocks={"in_proj_weight": None})
    assert [block.name for block in plan.blocks] == ["in_proj_weight", "out_proj.weight"]
    assert plan.masks(attention) == plan.masks()


def changed(**tensors):
    return {name: tensor for name, tensor in {**weights(), **tensors}.items() if tensor is not None}


@pytest.mark.parametrize(
    ("state", "error", "message"),
    [
        (changed(**{"fc.weight": torch.ones(8, 5)}), PlanError, r"fc\.weight has shape \[8, 5\], but \[5, 8\]"),
        (changed(**{"fc.weight": torch.ones(5, 8).half()}), PlanError, r"fc\.weight is float16, but float32 in"),
        (changed(**{"fc.weight": None}), PlanError, r"the plan does not fit this network: .*fc\.weight"),
        (changed(**{"fc.weight": torch.full((5, 8), torch.nan)}), WeightsError, r"fc\.weight has 40 NaN"),
        (changed(**{"fc.weight": torch.ones(5, 8, device="meta")}), WeightsError, r"fc\.weight has no data"),
    ],
)  # fmt: skip
def test_another_network_is_refused_unchanged(state, error, message):
    before = {name: tensor.clone() for name, tensor in state.items()}
    with pytest.raises(error, match=message):
        gpmt.prune_(state, plan=divided_plan())
    assert all(
        torch.equal(tensor, before[name]) or tensor.isnan().all()
        for name, tensor in state.items()
        if tensor.device.type != "meta"
    )


def test_norms_are_kept():
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(6, 4))
    plan = gpmt.plan(layer, sparsity=0.5)
    [row] = plan.tensors
    with pytest.raises(PlanError, match="keeps 3 weights in the plan, but has 4 norms"):
        plan.with_kept({row.name: 3}).masks(layer)
    assert plan.with_kept({row.name: 4}).masks(layer).total_kept == 4


def test_a_plan_says_all_that_options_would():
    plan = divided_plan()
    with pytest.raises(BudgetError, match="a plan says all that sparsity, min_kept would; leave them out"):
        gpmt.prune_(weights(), plan=plan, sparsity=0.5, min_kept=3)
    with pytest.raises(
        BudgetError, match=r"give one, such as sparsity=0\.9, or max_macs, a pattern or a plan"
    ):
        gpmt.prune_(weights())
