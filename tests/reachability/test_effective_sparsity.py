import copy
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import gpmt
from gpmt.errors import GpmtError, MaskError, ScopeError
from gpmt.masks import Masks
from tests.reachability.networks import LINEAR, shape_of
from tests.reachability.oracle import active_by_paths


def mlp() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))


def test_dead_outputs_cut_others() -> None:
    model = mlp()
    with torch.no_grad():
        model[0].weight[1] = 0
        model[2].weight[:, 2] = 0
    found = gpmt.effective_sparsity(model, torch.zeros(1, 4))
    assert (found.numel, found.kept, found.active, found.inactive, found.idle) == (18, 12, 6, 6, 0)
    assert (found.sparsity, found.direct_sparsity) == (12 / 18, 6 / 18)
    first, last = found.tensors
    assert (first.outputs, first.dead_outputs, first.cut_outputs) == (3, 1, 1)
    assert (last.inputs, last.dead_inputs, last.cut_inputs) == (3, 1, 1)
    assert (first.active, last.active) == (4, 2)
    assert not found.intact
    assert str(found) == (
        "1 of 3 outputs of 0.weight are dead; 1 of 3 outputs of 0.weight are on no path; 6 kept weights (50.00%) are "
        "on no path: effective sparsity 66.67% (kept 33.33%)"
    )
    document = found.to_dict()
    assert {key: document[key] for key in ("weights", "kept", "active", "dead_outputs", "cut_outputs")} == {
        "weights": 18,
        "kept": 12,
        "active": 6,
        "dead_outputs": 1,
        "cut_outputs": 1,
    }
    assert document["tensors"][0]["weights"] == 12
    assert document["tensors"][0]["shape"] == [3, 4]


def test_a_dense_network_is_intact() -> None:
    found = gpmt.effective_sparsity(mlp(), torch.zeros(1, 4))
    assert found.intact
    every = "each of 18 kept weights is on a path from input to output"
    assert str(found) == f"{every}: effective sparsity 0.00% (kept 0.00%)"


def test_a_channel_of_a_sum_lives_if_either_does() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other, self.head = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.one(x) + self.other(x))

    model = Block()
    with torch.no_grad():
        model.one.weight[0] = 0
    assert gpmt.effective_sparsity(model, torch.zeros(1, 2)).inactive == 0
    with torch.no_grad():
        model.other.weight[0] = 0
    found = gpmt.effective_sparsity(model, torch.zeros(1, 2))
    # What is left of this channel is its biases.
    assert [row.active for row in found.tensors] == [2, 2, 1]


def test_weights_that_would_be_on_no_path_anyway_are_idle() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.unused = nn.Conv2d(1, 2, 3, padding=1), nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x)

    found = gpmt.effective_sparsity(Net(), torch.zeros(1, 1, 1, 1))
    assert (found.kept, found.active, found.idle, found.inactive) == (22, 2, 20, 20)
    assert found.intact
    assert [row.used for row in found.tensors] == [True, False]
    assert str(found) == (
        "20 kept weights (90.91%) are on no path, 20 of them without pruning too; the network does not use "
        "unused.weight: effective sparsity 90.91% (kept 0.00%)"
    )


def test_masks_take_the_place_of_zeros_and_are_not_applied() -> None:
    model = mlp()
    before = copy.deepcopy(model.state_dict())
    kept = torch.ones(3, 4, dtype=torch.bool)
    kept[1] = False
    masks = Masks.from_dense({"0.weight": kept})
    found = gpmt.effective_sparsity(model, torch.zeros(1, 4), masks=masks)
    assert [row.name for row in found.tensors] == ["0.weight"]
    assert (found.kept, found.active) == (8, 8)
    both = gpmt.effective_sparsity(model, torch.zeros(1, 4), masks=masks, scope=["0.weight", "2.weight"])
    assert (both.kept, both.active) == (14, 12)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    plan = gpmt.plan(model, sparsity=0.5)
    planned = gpmt.effective_sparsity(torch.nn.DataParallel(model), torch.zeros(1, 4), masks=plan.masks())
    assert planned.kept == 9
    other = Masks.from_dense({"1.weight": kept})
    with pytest.raises(MaskError, match=r"masked tensor 1.weight is missing"):
        gpmt.effective_sparsity(model, torch.zeros(1, 4), masks=other)
    with pytest.raises(ScopeError):
        gpmt.effective_sparsity(model, torch.zeros(1, 4), scope="nothing")


def test_on_meta_with_masks() -> None:
    model = mlp()
    masks = gpmt.plan(model, sparsity=0.5).masks()
    expected = gpmt.effective_sparsity(model, torch.zeros(1, 4), masks=masks)
    assert gpmt.effective_sparsity(model.to("meta"), torch.zeros(1, 4), masks=masks) == expected
    with pytest.raises(GpmtError, match="meta"):
        gpmt.effective_sparsity(model, torch.zeros(1, 4))


def test_nothing_of_the_network_changes() -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(), nn.Flatten(), nn.Linear(8, 2)
    ).train()
    model[2].eval()
    calls = []
    model.register_forward_hook(lambda *_: calls.append(1))
    before = copy.deepcopy(model.state_dict())
    versions = [t._version for t in model.state_dict().values()]
    model[0].weight.grad = torch.ones_like(model[0].weight)
    generators = torch.get_rng_state(), random.getstate()
    with torch.inference_mode():
        gpmt.effective_sparsity(model, torch.zeros(1, 1, 4, 4))
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert versions == [t._version for t in model.state_dict().values()]
    assert [m.training for m in model] == [True, True, False, True, True]
    assert torch.equal(model[0].weight.grad, torch.ones(2, 1, 3, 3))
    assert all(p.grad is None for p in model[4].parameters())
    assert torch.equal(generators[0], torch.get_rng_state())
    assert generators[1] == random.getstate()
    assert len(model._forward_hooks) == 1


def test_columns() -> None:
    model = mlp()
    gpmt.prune_(model, sparsity=0.5, granularity="column")
    found = gpmt.effective_sparsity(model, torch.zeros(1, 4), granularity="column")
    assert (found.unit, found.numel, found.kept) == ("columns", 7, 4)
    kept = [int(model[i].weight.any(0).sum()) for i in (0, 2)]
    assert [row.kept for row in found.tensors] == kept
    assert [row.active for row in found.tensors] == [kept[0] if kept[1] else 0, kept[1] if kept[0] else 0]
    assert found.to_dict()["columns"] == 7
    with pytest.raises(ScopeError, match="has 4 dimensions"):
        gpmt.effective_sparsity(nn.Conv2d(1, 1, 3), torch.zeros(1, 1, 4, 4), granularity="column")


def test_channels_of_grouped_and_transposed_convolutions() -> None:
    model = nn.Sequential(
        nn.Conv2d(4, 4, 1, groups=2, bias=False), nn.ConvTranspose2d(4, 6, 1, groups=2, bias=False)
    )
    with torch.no_grad():
        model[0].weight[:] = 1
        model[0].weight[2:, 1] = 0  # input 3
        model[1].weight[:] = 1
        model[1].weight[2:, 2] = 0  # output 5
        model[1].weight[1] = 0  # input 1
    found = gpmt.effective_sparsity(model, torch.zeros(1, 4, 1, 1))
    first, last = found.tensors
    assert (first.inputs, first.dead_inputs, first.outputs, first.dead_outputs, first.cut_outputs) == (
        4,
        1,
        4,
        0,
        1,
    )
    assert (last.inputs, last.dead_inputs, last.outputs, last.dead_outputs) == (4, 1, 6, 1)


def test_weights_that_norms_are_of() -> None:
    norms = nn.utils.parametrizations
    model = nn.Sequential(norms.weight_norm(nn.Linear(4, 4)), norms.spectral_norm(nn.Linear(4, 2)))
    with torch.no_grad():
        model[0].parametrizations.weight.original1[1] = 0
    found = gpmt.effective_sparsity(model, torch.zeros(1, 4))
    assert found.conservative == ()
    assert (found.kept, found.active, found.dead_outputs) == (20, 18, 1)


@settings(max_examples=15)
@given(st.sampled_from(sorted(LINEAR)), st.floats(0.1, 1), st.integers(0, 2**16))
def test_counts_are_those_of_sums_over_paths(name: str, density: float, seed: int) -> None:
    torch.manual_seed(seed)
    model = LINEAR[name]()
    kept = {n: torch.rand(p.shape) < density for n, p in model.named_parameters()}
    found = gpmt.effective_sparsity(model, torch.zeros(1, *shape_of(name)), masks=Masks.from_dense(kept))
    expected = active_by_paths(model, shape_of(name), kept)
    everything = {n: torch.ones_like(mask) for n, mask in kept.items()}
    possible = active_by_paths(model, shape_of(name), everything)
    for row in found.tensors:
        assert (row.kept, row.active) == (int(kept[row.name].sum()), int(expected[row.name].sum()))
        assert row.idle == int((kept[row.name] & ~possible[row.name]).sum())
