"""RigL grows the pruned weights whose gradients are largest."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

import gpmt
from gpmt.errors import MethodError


def step_without_update(run: Any) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Do a step; return weights as the optimiser leaves them, under the old masks, and gradients."""
    old = run.pruner.masks
    seen: dict[str, torch.Tensor] = {}
    update = run.pruner._rule.update

    def watched(step: int) -> None:
        seen.update({name: run.model.get_parameter(name).detach().clone() for name in old})
        update(step)

    run.pruner._rule.update = watched
    run.step()
    run.pruner._rule.update = update
    return seen, {name: run.model.get_parameter(name).grad.clone() for name in old}


def test_an_update_is_that_of_a_full_sort(toy: Any, make: Any) -> None:
    """Survivors and what returns keep their value; what is new starts at zero, with no state."""
    run = toy.start(gpmt.OneShot(0.8), make=make, method=gpmt.RigL(interval=3, end=10, alpha=0.5)).steps(2)
    old = run.pruner.masks
    weights, gradients = step_without_update(run)
    share = 0.25 * (1 + math.cos(math.pi * 3 / 10))
    for name, mask in old.items():
        count = int(mask.sum())
        kept = mask.flatten().nonzero().flatten()
        sizes, slopes = weights[name].flatten().abs(), gradients[name].flatten().abs()
        dropped = math.floor(share * count)
        stay = set(kept[sizes[kept].argsort(descending=True)][: count - dropped].tolist())
        rest = torch.tensor([index for index in range(mask.numel()) if index not in stay])
        grown = rest[slopes[rest].argsort(descending=True)][:dropped]
        expected = torch.zeros(mask.numel(), dtype=torch.bool)
        expected[list(stay | set(grown.tolist()))] = True
        new = run.pruner.masks[name]
        assert torch.equal(new, expected.view(mask.shape)), name
        assert torch.equal(
            run.model.get_parameter(name).detach(), torch.where(new & mask, weights[name], 0.0)
        )
        for value in run.optimizer.state[run.model.get_parameter(name)].values():
            if value.shape == new.shape:
                assert not value[new & ~mask].any()
    run.assert_zero_where_pruned()


def test_a_gradient_that_is_scaled_ranks_alike(toy: Any) -> None:
    """A GradScaler changes no mask; a step that it skips postpones the update to the next good one."""

    def train(fused: bool, scaled: bool, reported: bool = False) -> list[str]:
        model = toy.model().eval()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, fused=fused)
        pruner = gpmt.Pruner(
            model, optimizer, schedule=gpmt.OneShot(0.8), method=gpmt.RigL(interval=2, end=9)
        )
        scaler = torch.amp.GradScaler("cpu", init_scale=64.0, enabled=scaled, growth_interval=10**6)
        digests = []
        for batch in (0, None, 1, None, 2, 3):
            if batch is None and not scaled:
                continue
            optimizer.zero_grad()
            loss = toy.loss_at(model, batch or 0)
            scaler.scale(loss * math.inf if batch is None else loss).backward()
            before, count = pruner.masks, pruner.step_count
            scaler.step(optimizer)
            scaler.update()
            if batch is None and reported:
                assert pruner.step_count == count
                pruner.skip_step()
            assert pruner.masks is not None
            if batch is None:
                assert pruner.masks == before
            else:
                digests.append(pruner.masks.digest())
        return digests

    plain = train(fused=False, scaled=False)
    assert len(set(plain)) == 3
    assert train(fused=False, scaled=True) == train(fused=True, scaled=True) == plain
    late = train(fused=False, scaled=True, reported=True)
    assert train(fused=True, scaled=True, reported=True) == late
    # Time goes on in steps that are left out: the updates of steps 2 and 4 come after steps 3 and 5.
    assert late[0] != late[1] != late[2]
    assert late[2] != late[3]


def test_an_update_that_waits_is_saved(toy: Any) -> None:
    run = toy.start(gpmt.OneShot(0.8), method=gpmt.RigL(interval=2, end=9)).steps(1)
    before = run.pruner.masks
    run.pruner.skip_step()
    assert run.pruner.state_dict()["method"] == {"waiting": 2}
    other = toy.start(gpmt.OneShot(0.8), method=gpmt.RigL(interval=2, end=9))
    other.pruner.load_state_dict(run.pruner.state_dict())
    assert other.pruner.masks == before
    other.step()
    assert other.pruner.masks != before
    assert other.pruner.state_dict()["method"] == {}


def test_infinite_gradients_wait(toy: Any) -> None:
    """Those that no GradScaler has found, and that did no harm."""
    run = toy.start(
        gpmt.OneShot(0.8),
        make=lambda model: torch.optim.SGD(model.parameters(), lr=0.0),
        method=gpmt.RigL(interval=1, end=9),
    )
    before = run.pruner.masks
    toy.loss_at(run.model, 0).backward()
    place = (run.model.head.weight == 0).nonzero()[0]
    run.model.head.weight.grad[tuple(place)] = math.inf
    run.optimizer.param_groups[0]["params"] = [run.model.stem.weight]
    run.optimizer.step()
    assert run.pruner.masks == before
    run.optimizer.zero_grad()
    run.model.zero_grad()
    toy.loss_at(run.model, 0).backward()
    run.optimizer.step()
    assert run.pruner.masks != before


def test_an_update_without_gradients_is_refused(toy: Any) -> None:
    run = toy.start(gpmt.OneShot(0.8), method=gpmt.RigL(interval=1, end=9))
    with pytest.raises(
        MethodError, match=r"none of the 5 prunable tensors, such as stem\.weight, has one at step 1; call"
    ):
        run.optimizer.step()


def test_sparse_gradients_are_refused() -> None:
    model = nn.Sequential(nn.Embedding(4, 4, sparse=True), nn.Linear(4, 4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    gpmt.Pruner(
        model,
        optimizer,
        schedule=gpmt.OneShot(0.5),
        scope=["0.weight"],
        method=gpmt.RigL(interval=1, end=5),
    )
    model(torch.tensor([1])).sum().backward()
    with pytest.raises(MethodError, match=r"the gradient of 0\.weight is sparse, and rigl needs"):
        optimizer.step()


def test_an_optimiser_without_gradients_of_pruned_weights_is_refused(toy: Any) -> None:
    model = toy.model()
    optimizer = torch.optim.LBFGS(model.parameters())
    with pytest.raises(MethodError, match="zero for LBFGS where weights are pruned"):
        gpmt.Pruner(model, optimizer, schedule=gpmt.OneShot(0.5), method=gpmt.RigL(end=5))
    gpmt.Pruner(model, optimizer, schedule=gpmt.OneShot(0.5), method=gpmt.SET(end=5))
