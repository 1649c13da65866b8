"""Masks are made of the weights that were planned, or not at all."""

import pytest
import torch
from tests.core.networks import small_network

import gpmt
from gpmt.core.keys.keys import KEY32, MagnitudeKeys
from gpmt.core.keys.packed_bits import unpack
from gpmt.core.selection.select import select
from gpmt.errors import WeightsError
from gpmt.planning.packing import MaskPacker


def test_weights_changed_after_planning_are_noticed():
    model = small_network()
    plan = gpmt.plan(model, sparsity=0.5)
    with torch.no_grad():
        model[4].weight.mul_(2)
    with pytest.raises(
        WeightsError, match=r"the weights of 4\.weight have changed since they were planned; plan again"
    ):
        plan.masks()


def test_weights_changed_without_pytorch_are_noticed_too():
    model = small_network()
    plan = gpmt.plan(model, sparsity=0.5)
    model[0].weight.detach().numpy()[:] = 7
    with pytest.raises(WeightsError, match=r"0\.weight have changed"):
        plan.masks()


def packer_of(weights, total):
    sources = [MagnitudeKeys(name, tensor, KEY32) for name, tensor in weights.items()]
    [selection] = select(sources, KEY32, totals=[total], floors=[0] * len(weights))
    return MaskPacker(weights, sources, KEY32, selection.cuts)


def test_bits_are_packed_and_weights_zeroed_in_one_pass():
    weights = {"a": torch.randn(30, 7), "b": torch.randn(9, 20), "c": torch.randn(50, dtype=torch.bfloat16)}
    before = {name: tensor.clone() for name, tensor in weights.items()}
    expected = packer_of(weights, 100).pack()
    versions = {name: tensor._version for name, tensor in weights.items()}
    packer = packer_of(weights, 100)
    assert packer.lies_in([*weights.values()])
    packed = packer.pack_and_zero()
    for name, tensor in weights.items():
        assert torch.equal(packed[name], expected[name])
        kept = torch.from_numpy(unpack(packed[name], tensor.numel())).view(tensor.shape).bool()
        assert torch.equal(tensor, before[name] * kept)
        assert not torch.signbit(tensor[~kept]).any()
        assert tensor._version > versions[name]


def test_what_does_not_lie_where_it_is_ranked_is_not_zeroed_in_the_same_pass():
    weight = torch.randn(6, 5)
    for values, holder in [
        (weight, weight.clone()),
        (weight.T, weight),
        (weight.half(), weight),
        (weight, None),
        (weight, weight.as_subclass(type("Own", (torch.Tensor,), {}))),
    ]:
        assert not packer_of({"a": values}, 10).lies_in([holder])
    assert packer_of({"a": weight}, 10).lies_in([torch.nn.Parameter(weight)])


def test_a_block_is_zeroed_in_its_tensor():
    stack = torch.randn(4, 6, 5)
    before = stack.clone()
    packer = packer_of({"a": stack[0], "d": stack[3]}, 30)
    assert packer.lies_in([stack, stack])
    packer.pack_and_zero()
    assert torch.equal(stack[1:3], before[1:3])
    assert int((stack == 0).sum()) == 30


def test_weights_changed_after_planning_are_not_zeroed():
    weights = {"a": torch.randn(30)}
    packer = packer_of(weights, 10)
    weights["a"].mul_(2)
    before = weights["a"].clone()
    with pytest.raises(WeightsError, match="the weights of a have changed"):
        packer.pack_and_zero()
    assert torch.equal(weights["a"], before)
