"""What outputs without weights get back where the network is made dense again."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gpmt
from gpmt.core.layers.axes import Axes
from gpmt.masks import Masks
from gpmt.pruner.lost_outputs import LostOutputs

ALTERNATING = gpmt.ACDC(0.9, start=1, period=4, sparse=2, last_restore=7, end=10, unit="step")


class Held(nn.Module):
    """One tensor."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)


@pytest.mark.parametrize(
    ("shape", "axes", "lost"),
    [
        ((4, 3), Axes(), (1,)),
        ((3, 4), Axes(1), (slice(None), 1)),
        ((4, 3, 2, 2), Axes(), (1,)),
        ((3, 4, 2, 2), Axes(1), (slice(None), 1)),
        ((2, 3, 4), Axes(2, stacked=True), (1, slice(None), 1)),
    ],
)
def test_only_outputs_without_weights_get_theirs_back(shape: Any, axes: Axes, lost: Any) -> None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(shape, dtype=torch.bool)
    mask.view(-1)[::2] = True
    axes.arrange(mask)[:, :, 0] = True
    mask[lost] = False
    model, masks, kept = Held(weight.clone()), Masks.from_dense({"weight": mask}), LostOutputs()
    kept.keep(model, masks, {"weight": axes})
    masks.apply_(model)
    again = LostOutputs()
    again.load_state_dict(copy.deepcopy(kept.state_dict()))
    again.give_back(model, masks, {"weight": axes})
    expected = torch.where(mask, weight, 0.0)
    expected[lost] = weight[lost]
    assert torch.equal(model.weight.detach(), expected)
    assert again.state_dict() == {}
    assert sum(one["weights"].numel() for one in kept.state_dict().values()) == weight[lost].numel()


def test_what_was_kept_first_stays_while_the_network_is_sparse() -> None:
    """A second pruning sees zeros; outputs that have weights again by then get nothing."""
    weight, kept = torch.arange(1.0, 9.0).view(4, 2), LostOutputs()
    model = Held(weight.clone())
    for rows in ([1, 2], [2, 3]):
        mask = torch.ones(4, 2, dtype=torch.bool)
        mask[rows] = False
        masks = Masks.from_dense({"weight": mask})
        kept.keep(model, masks, {"weight": Axes()})
        masks.apply_(model)
    mask[3, 0] = True  # as RigL might
    kept.give_back(model, Masks.from_dense({"weight": mask}), {"weight": Axes()})
    assert model.weight.tolist() == [[1.0, 2.0], [0.0, 0.0], [5.0, 6.0], [0.0, 0.0]]


@pytest.mark.parametrize("at", [1, 2, 3, 5, 6])
def test_resume_between_pruning_and_restoring(toy: Any, at: int) -> None:
    for method in ("hard", "ham", gpmt.SET(interval=2, end=9)):
        whole = toy.start(ALTERNATING, method=method).steps(at)
        states = copy.deepcopy([part.state_dict() for part in (whole.model, whole.optimizer, whole.pruner)])
        assert bool(whole.pruner._network.lost.state_dict()) == (at in (1, 2, 5, 6))
        resumed = toy.start(ALTERNATING, weights=1, method=method)
        for part, state in zip((resumed.model, resumed.optimizer, resumed.pruner), states, strict=True):
            part.load_state_dict(state)
        toy.assert_same(whole.steps(11 - at), resumed.steps(11 - at))


def test_nothing_is_kept_where_nothing_is_restored(toy: Any) -> None:
    """Nor after the last time."""
    assert toy.start(ALTERNATING).steps(10).pruner._network.lost.state_dict() == {}
    run = toy.start(gpmt.Gradual(0.95, end=4)).steps(5)
    assert run.pruner._network.lost.state_dict() == {}


def test_weights_do_not_explode_behind_a_batch_norm() -> None:
    """Restored from zero, the weights of an output that batch normalisation follows become the largest by far."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(16, 64),
        nn.BatchNorm1d(64),
        nn.ReLU(),
        nn.Linear(64, 64),
        nn.BatchNorm1d(64),
        nn.ReLU(),
        nn.Linear(64, 4),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    gpmt.Pruner(model, optimizer, schedule=gpmt.ACDC.over(0.97, 40, unit="step"), min_kept=32)
    inputs = torch.randn(64, 16)
    labels = inputs[:, :4].argmax(1)
    for _ in range(28):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
    assert max(float(layer.weight.detach().abs().max()) for layer in model[::3]) < 3
