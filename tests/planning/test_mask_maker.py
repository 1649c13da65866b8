"""Pruning in one pass gives the masks and the weights of the usual way, for every kind of target."""

import pytest
import torch
from torch import nn

import gpmt
from gpmt.errors import WeightsError
from gpmt.planning.mask_maker import MaskMaker


class Layers(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.attention = nn.MultiheadAttention(16, 2)  # three blocks
        self.conv = nn.Conv2d(4, 8, 3)
        self.linear = nn.Linear(30, 7)


@pytest.fixture
def passes(monkeypatch):
    """Note whether each pruning took one pass."""
    found = []
    prune_ = MaskMaker.prune_

    def noting(self, target):
        masks = prune_(self, target)
        found.append(masks is not None)
        return masks

    monkeypatch.setattr(MaskMaker, "prune_", noting)
    return found


def channels_last(model):
    return model.to(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("change", "options", "one_pass"),
    [
        (lambda model: model, {"min_kept": 20}, True),
        (lambda model: model.bfloat16(), {}, True),
        (lambda model: model.double(), {}, True),
        (lambda model: model.half(), {}, False),
        (channels_last, {}, False),
        (lambda model: model, {"granularity": "column", "scope": "linear.weight"}, False),
        (lambda model: model, {"allocation": "random"}, False),
        (lambda model: model, {"allocation": "uniform"}, True),
        (lambda model: nn.utils.parametrizations.weight_norm(model.linear), {}, False),
    ],
)
def test_the_weights_and_masks_are_those_of_the_usual_way(change, options, one_pass, passes):
    expected, model = change(Layers()), change(Layers())
    masks = gpmt.plan(expected, sparsity=0.6, **options).masks()
    masks.apply_(expected)
    plan = gpmt.prune_(model, sparsity=0.6, **options)
    assert passes == [one_pass]
    assert plan.masks() == masks
    for ours, theirs in zip(model.parameters(), expected.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_state_dicts_and_wrapped_networks_take_one_pass(passes):
    state = {name: tensor.clone() for name, tensor in Layers().state_dict().items()}
    wrapped = torch.compile(Layers())
    pruned = [gpmt.prune_(target, sparsity=0.6).masks() for target in (state, wrapped)]
    assert passes == [True, True]
    assert pruned[0] == pruned[1]
    for name, tensor in wrapped._orig_mod.state_dict().items():
        assert torch.equal(tensor, state[name])


def test_another_network_than_the_planned_one_is_pruned_by_its_masks(passes):
    model, other = Layers(), Layers()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    plan = gpmt.plan(model, sparsity=0.6)
    plan.apply_(other)
    assert passes == [False]
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    plan.apply_(model)
    for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_pruning_is_seen_by_autograd():
    """What autograd has saved of the weights is not taken for what they are now."""
    layer = nn.Linear(10, 10)
    loss = layer.weight.pow(2).sum()
    gpmt.prune_(layer, sparsity=0.5)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"granularity": "row", "min_kept": 1},
        {"pattern": "2:4"},
        {"within": "row"},
        {"blocks": {"linear.*": 7}},
    ],
    ids=["weights", "rows", "2:4", "within rows", "blocks"],
)
def test_one_mask_at_a_time(options):
    sparsity = {} if "pattern" in options else {"sparsity": 0.6}
    exclude = ["linear.*"] if "pattern" in options else []
    plan = gpmt.plan(Layers(), exclude=exclude, **sparsity, **options)
    bits = {row.name: plan.mask_bits(row.name) for row in reversed(plan.tensors)}
    masks = plan.masks()
    assert all(torch.equal(found, masks.packed(name)) for name, found in bits.items())
    assert torch.equal(plan.mask_bits("conv.weight"), masks.packed("conv.weight"))


def test_one_mask_of_weights_that_changed():
    model = Layers()
    plan = gpmt.plan(model, sparsity=0.6)
    with torch.no_grad():
        model.conv.weight.add_(1)
    with pytest.raises(WeightsError, match=r"conv.weight have changed since they were planned"):
        plan.mask_bits("conv.weight")
    assert len(plan.mask_bits("linear.weight")) == 27
