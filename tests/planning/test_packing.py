"""Masks are made of the weights that were planned, or not at all."""

import pytest
import torch
from tests.core.networks import small_network

import gpmt
from gpmt.core.keys import KEY32, MagnitudeKeys
from gpmt.core.packed_bits import unpack
from gpmt.core.select import select
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
    weights = {"a": torch.randn(30, 7), "b": torch.randn(9, 20).T, "c": torch.randn(50, dtype=torch.bfloat16)}
    before = {name: tensor.clone() for name, tensor in weights.items()}
    expected = packer_of(weights, 100).pack()
    versions = {name: tensor._version for name, tensor in weights.items()}
    packed, written = packer_of(weights, 100).pack_and_zero(weights)
    assert written == {"a", "c"}  # b is copied to be read
    assert list(packed) == ["a", "b", "c"]
    for name, tensor in weights.items():
        assert torch.equal(packed[name], expected[name])
        kept = torch.from_numpy(unpack(packed[name], tensor.numel())).view(tensor.shape).bool()
        pruned = before[name] * kept
        assert torch.equal(tensor, pruned if name in written else before[name])
        assert (tensor._version > versions[name]) == (name in written)


def test_only_targets_are_zeroed():
    weights = {"a": torch.randn(30, 7), "b": torch.randn(50)}
    before = {name: tensor.clone() for name, tensor in weights.items()}
    packed, written = packer_of(weights, 100).pack_and_zero({"a": weights["a"].clone()})
    assert not written
    assert packed.keys() == weights.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights.items())


def test_a_block_is_zeroed_in_its_tensor():
    stack = torch.randn(4, 6, 5)
    before = stack.clone()
    blocks = dict(zip("abcd", stack, strict=True))
    _, written = packer_of(blocks, 60).pack_and_zero({"a": stack[0], "d": stack[3]})
    assert written == {"a", "d"}
    assert torch.equal(stack[1:3], before[1:3])
    assert (stack[[0, 3]] == 0).any()


def test_weights_changed_after_planning_are_not_zeroed():
    weights = {"a": torch.randn(30)}
    packer = packer_of(weights, 10)
    weights["a"].mul_(2)
    before = weights["a"].clone()
    with pytest.raises(WeightsError, match="the weights of a have changed"):
        packer.pack_and_zero(weights)
    assert torch.equal(weights["a"], before)
