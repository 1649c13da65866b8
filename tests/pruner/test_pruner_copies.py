"""Copies, pickles and running averages of a model that is being pruned."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn, get_ema_multi_avg_fn

from gpmt.core.schedule.schedule import ACDC, Gradual, OneShot
from gpmt.pruner.pruner import Pruner

COPIES: dict[str, Callable[[Any], Any]] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda parts: pickle.loads(pickle.dumps(parts)),
}
AVERAGES: dict[str, dict[str, Any]] = {
    "mean": {},
    "mean-with-buffers": {"use_buffers": True},
    "ema": {"avg_fn": get_ema_avg_fn(0.9)},
    "ema-multi": {"multi_avg_fn": get_ema_multi_avg_fn(0.9)},
}


@pytest.mark.parametrize("duplicate", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("at", [0, 3])
def test_copied_together_they_go_on_as_the_originals(
    toy: Any, duplicate: Callable[[Any], Any], at: int, make: Callable[..., torch.optim.Optimizer]
) -> None:
    run = toy.start(Gradual(0.9, end=6, interval=2, initial=0.1), make=make).steps(at)
    before = run.tensors()
    twin = toy.run(*duplicate((run.model, run.optimizer, run.pruner)))
    assert twin.pruner.masks == run.pruner.masks
    assert twin.pruner.plan is None
    twin.steps(6).assert_zero_where_pruned()
    assert all(torch.equal(value, before[name]) for name, value in run.tensors().items())
    assert run.pruner.step_count == at
    toy.assert_same(run.steps(6), twin)


@pytest.mark.parametrize("duplicate", COPIES.values(), ids=COPIES)
def test_a_detached_pruner_stays_detached_in_the_copy(toy: Any, duplicate: Callable[[Any], Any]) -> None:
    run = toy.start(OneShot(0.9))
    run.pruner.detach()
    twin = toy.run(*duplicate((run.model, run.optimizer, run.pruner)))
    twin.optimizer.zero_grad()
    toy.loss_at(twin.model, 0).backward()
    twin.optimizer.step()
    assert twin.pruner.step_count == 0
    assert twin.zeros() < 0.9 * toy.numel


@pytest.mark.parametrize("duplicate", COPIES.values(), ids=COPIES)
def test_model_alone_is_copied_without_a_trace(toy: Any, duplicate: Callable[[Any], Any]) -> None:
    run = toy.start(OneShot(0.9)).steps(2)
    twin = duplicate(run.model)
    assert all(torch.equal(p, twin.state_dict()[name]) for name, p in run.model.state_dict().items())
    size = len(pickle.dumps(twin))
    assert size == len(pickle.dumps(toy.model()))


@pytest.mark.parametrize("options", AVERAGES.values(), ids=AVERAGES)
def test_tracked_average_is_zero_where_the_model_is(toy: Any, options: dict[str, Any]) -> None:
    run = toy.start(Gradual(0.9, end=6, interval=2))
    average = AveragedModel(run.model, **options)
    run.pruner.track(average)
    for _ in range(9):
        run.step()
        average.update_parameters(run.model)
        for name, mask in (run.pruner.masks or {}).items():
            pruned = average.module.get_parameter(name)[~mask]
            assert torch.equal(pruned, torch.zeros_like(pruned))
            assert not pruned.signbit().any()
    assert sum(int((p == 0).sum()) for p in average.parameters()) >= 0.9 * toy.numel
    assert not torch.equal(average.module.head.weight, run.model.head.weight)


@pytest.mark.parametrize("options", AVERAGES.values(), ids=AVERAGES)
def test_average_that_is_not_tracked_keeps_a_trace_of_pruned_weights(
    toy: Any, options: dict[str, Any]
) -> None:
    """What `track` is for."""
    run = toy.start(Gradual(0.9, end=6, interval=2))
    average = AveragedModel(run.model, **options)
    for _ in range(9):
        run.step()
        average.update_parameters(run.model)
    mask = run.pruner.masks["head.weight"]
    assert average.module.head.weight[~mask].abs().sum() > 0


def test_average_made_late_is_zeroed_at_once(toy: Any) -> None:
    run = toy.start(OneShot(0.9))
    average = copy.deepcopy(run.model)
    with torch.no_grad():
        average.head.weight.fill_(1.0)
    run.pruner.track(average)
    assert int((average.head.weight == 0).sum()) == 320 - run.pruner.masks.kept("head.weight")


def test_average_follows_acdc(toy: Any) -> None:
    run = toy.start(ACDC(0.8, start=1, period=4, sparse=2, last_restore=3, end=6, unit="step"))
    average = AveragedModel(run.model)
    run.pruner.track(average)
    zeros = []
    for _ in range(7):
        run.step()
        average.update_parameters(run.model)
        zeros.append(sum(int((p == 0).sum()) for p in average.parameters() if p.ndim >= 2))
    assert zeros[1] >= 0.8 * toy.numel
    assert zeros[4] < 0.5 * toy.numel
    assert zeros[6] >= 0.8 * toy.numel


def test_averages_are_copied_along(toy: Any) -> None:
    run = toy.start(Gradual(0.9, end=4, initial=0.1))
    average = AveragedModel(run.model)
    run.pruner.track(average)
    model, optimizer, pruner, twin = copy.deepcopy((run.model, run.optimizer, run.pruner, average))
    copied = toy.run(model, optimizer, pruner)
    for _ in range(5):
        copied.step()
        twin.update_parameters(model)
    assert sum(int((p == 0).sum()) for p in twin.parameters()) >= 0.9 * toy.numel
    assert sum(int((p == 0).sum()) for p in average.parameters() if p.ndim >= 2) == 0.1 * toy.numel


def test_loading_prunes_the_averages(toy: Any) -> None:
    state = toy.start(OneShot(0.9)).pruner.state_dict()
    run = toy.start(OneShot(0.9), weights=1)
    average = AveragedModel(toy.model(2))
    run.pruner.track(average)
    run.pruner.load_state_dict(state)
    for name, mask in run.pruner.masks.items():
        assert not average.module.get_parameter(name)[~mask].any()


def test_pruner_keeps_working_when_nobody_holds_it(toy: Any) -> None:
    model = toy.model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    Pruner(model, optimizer, schedule=OneShot(0.9))
    for step in range(3):
        toy.loss_at(model, step).backward()
        optimizer.step()
    assert sum(int((p == 0).sum()) for p in model.parameters()) >= 0.9 * toy.numel
