"""Pruned weights and what the optimiser remembers of them are exactly zero after every step."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import nn

from gpmt.core.schedule import ACDC, Gradual, OneShot
from gpmt.errors import BudgetError, GpmtError, MaskError, ScopeError, WeightsError
from gpmt.pruner import Pruner

Make = Callable[..., torch.optim.Optimizer]
STATES = {"sgd": 1, "nesterov": 1, "adam": 2, "amsgrad": 3, "adamw": 2}


@pytest.mark.parametrize(
    "kernel", [{}, {"foreach": True}, {"fused": True}], ids=["default", "foreach", "fused"]
)
def test_every_step_keeps_weights_and_state_zero(toy: Any, make: Make, kernel: dict[str, bool]) -> None:
    schedule = Gradual(0.9, end=6, interval=2, initial=0.3)
    run = toy.start(schedule, make=lambda model: make(model, **kernel))
    sparsity = Fraction(3, 10)
    for step in range(1, 11):
        run.step()
        if (event := schedule.event(step)) is not None:
            sparsity = event.sparsity
        assert run.pruner.masks.total_pruned == math.floor(sparsity * toy.numel)
        assert run.zeros() >= run.pruner.masks.total_pruned
        assert run.assert_zero_where_pruned() == 5 * (1 + STATES[make.__name__])
    assert run.pruner.masks.total_pruned == 0.9 * toy.numel
    assert run.pruner.plan.sparsity == Fraction(9, 10)


def test_kept_weights_train_as_without_pruner(toy: Any) -> None:
    """Only pruned positions are touched: with nothing pruned, training is bit for bit the same."""
    pruned = toy.start(OneShot(0.0)).steps(5)
    model = toy.model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-2)
    for step in range(5):
        optimizer.zero_grad()
        toy.loss_at(model, step).backward()
        optimizer.step()
    for name, value in model.state_dict().items():
        assert torch.equal(value, pruned.model.state_dict()[name]), name


def test_gradients_are_left_alone(toy: Any) -> None:
    run = toy.start(OneShot(0.9))
    toy.loss_at(run.model, 0).backward()
    before = {name: p.grad.clone() for name, p in run.model.named_parameters()}
    run.optimizer.step()
    for name, parameter in run.model.named_parameters():
        assert torch.equal(parameter.grad, before[name])
    pruned = ~run.pruner.masks["head.weight"]
    assert before["head.weight"][pruned].abs().sum() > 0


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_infinite_gradient_at_a_pruned_weight_leaves_it_zero(toy: Any, make: Make, value: float) -> None:
    run = toy.start(OneShot(0.9), make=make)
    for _ in range(3):
        run.optimizer.zero_grad()
        toy.loss_at(run.model, run.pruner.step_count).backward()
        for name, mask in run.pruner.masks.items():
            run.model.get_parameter(name).grad[~mask] = value
        run.optimizer.step()
        run.assert_zero_where_pruned()
    assert all(p.isfinite().all() for p in run.model.parameters())


def test_negative_zero_never_appears(toy: Any) -> None:
    run = toy.start(OneShot(0.5))
    with torch.no_grad():
        for parameter in run.model.parameters():
            parameter.neg_()
    run.step()
    run.assert_zero_where_pruned()


def test_masks_only_shrink_on_a_gradual_schedule(toy: Any) -> None:
    run = toy.start(Gradual(0.95, start=1, end=8, initial=0.2))
    previous = None
    for _ in range(10):
        run.step()
        if previous is not None:
            assert run.pruner.masks <= previous
        previous = run.pruner.masks
    assert run.pruner.masks.total_pruned == math.floor(Fraction(95, 100) * toy.numel)


def test_floors_and_scope_reach_the_plan(toy: Any) -> None:
    run = toy.start(OneShot(0.9), min_kept="1%", exclude="type:Linear", allocation="exact")
    masks = run.pruner.masks
    assert list(masks) == ["stem.weight", "depthwise.weight", "pointwise.weight"]
    assert masks.total_pruned == 0.9 * 400
    assert all(masks.kept(name) >= 4 for name in masks)
    assert run.pruner.plan.min_kept == 4
    run.steps(2).assert_zero_where_pruned()


def test_columns_stay_pruned_as_a_whole(toy: Any) -> None:
    run = toy.start(Gradual(0.5, end=3, initial=0.1), scope="type:Linear", granularity="column").steps(5)
    for mask in run.pruner.masks.values():
        assert torch.equal(mask.any(dim=0), mask.all(dim=0))
    columns = sum(int((~mask[0]).sum()) for mask in run.pruner.masks.values())
    assert columns == run.pruner.plan.pruned == (32 + 10) // 2
    run.assert_zero_where_pruned()


@pytest.mark.parametrize("format_", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("piece", [1, 30, 72, 200])
def test_masking_in_pieces_changes_nothing(
    toy: Any, monkeypatch: pytest.MonkeyPatch, piece: int, format_: torch.memory_format
) -> None:
    """Tensors of more weights than go at a time, whether or not their rows divide evenly."""
    whole = toy.start(Gradual(0.9, end=4), model=toy.model().to(memory_format=format_)).steps(6)
    monkeypatch.setattr("gpmt.pruner.PIECE", piece)
    parts = toy.start(Gradual(0.9, end=4), model=toy.model().to(memory_format=format_)).steps(6)
    toy.assert_same(whole, parts)
    parts.assert_zero_where_pruned()


@pytest.mark.parametrize("allocation", ["exact", "uniform", "erk", "lamp", "random"])
def test_every_allocation_trains(toy: Any, allocation: Any) -> None:
    run = toy.start(Gradual(0.8, end=4), allocation=allocation, seed=3).steps(6)
    assert run.pruner.masks.total_pruned == 0.8 * toy.numel
    run.assert_zero_where_pruned()


def test_acdc_alternates_between_sparse_and_dense(toy: Any) -> None:
    schedule = ACDC(0.8, start=2, period=4, sparse=2, last_restore=8, end=10, unit="step")
    run = toy.start(schedule)
    sparse = []
    for _ in range(12):
        run.step()
        sparse.append(run.pruner.masks is not None)
        if run.pruner.masks is not None:
            assert run.zeros() == 0.8 * toy.numel
            run.assert_zero_where_pruned()
    assert sparse == [step in {2, 3, 6, 7, 10, 11, 12} for step in range(1, 13)]


def test_weights_train_again_after_acdc_restores(toy: Any) -> None:
    run = toy.start(ACDC(0.8, start=1, period=4, sparse=2, last_restore=3, end=6, unit="step")).steps(3)
    assert run.pruner.masks is None
    assert run.zeros() == 0.8 * toy.numel  # dense from zero
    assert run.steps(2).zeros() < 0.4 * toy.numel


@pytest.mark.parametrize("accumulate", [2, 3])
def test_gradient_accumulation_counts_optimiser_steps(toy: Any, accumulate: int) -> None:
    run = toy.start(Gradual(0.8, end=4, interval=2))
    for batch in range(4 * accumulate):
        toy.loss_at(run.model, batch).backward()
        if (batch + 1) % accumulate == 0:
            run.optimizer.step()
            run.optimizer.zero_grad()
            assert run.pruner.step_count == (batch + 1) // accumulate
    assert run.pruner.masks.total_pruned == 0.8 * toy.numel
    run.assert_zero_where_pruned()


def test_epochs_are_counted_in_steps_per_epoch(toy: Any) -> None:
    run = toy.start(Gradual(0.8, start=1, end=3, unit="epoch"), steps_per_epoch=3)
    pruned = [run.steps(1).pruner.masks for _ in range(10)]
    assert [masks.total_pruned if masks else 0 for masks in pruned] == [0] * 5 + [980] * 3 + [1120] * 2


def test_event_after_the_start_waits_for_its_step(toy: Any) -> None:
    run = toy.start(OneShot(0.5, at=2))
    assert run.pruner.masks is None
    assert run.pruner.plan is None
    assert run.zeros() == 0
    assert run.steps(1).pruner.masks is None
    assert run.steps(1).zeros() == 0.5 * toy.numel


def test_closure_steps_count_once(toy: Any) -> None:
    run = toy.start(OneShot(0.5), make=lambda model: torch.optim.LBFGS(model.parameters(), max_iter=3))

    def closure() -> torch.Tensor:
        run.optimizer.zero_grad()
        loss: torch.Tensor = toy.loss_at(run.model, 0)
        loss.backward()
        return loss

    run.optimizer.step(closure)
    assert run.pruner.step_count == 1
    assert run.zeros() >= 0.5 * toy.numel


def test_momentum_from_before_the_pruner_is_cleared(toy: Any, make: Make) -> None:
    model = toy.model()
    optimizer = make(model)
    toy.loss_at(model, 0).backward()
    optimizer.step()
    run = toy.run(model, optimizer, Pruner(model, optimizer, schedule=OneShot(0.9)))
    assert run.assert_zero_where_pruned() == 5 * (1 + STATES[make.__name__])


def test_detach_stops_the_clock_and_frees_the_weights(toy: Any) -> None:
    run = toy.start(OneShot(0.9)).steps(1)
    run.pruner.detach()
    run.pruner.detach()
    toy.loss_at(run.model, 1).backward()
    run.optimizer.step()
    assert run.pruner.step_count == 1
    assert run.zeros() < 0.9 * toy.numel


def test_two_pruners_share_an_optimizer_but_no_tensor(toy: Any) -> None:
    run = toy.start(OneShot(0.9), exclude="head")
    with pytest.raises(
        MaskError, match=r"depthwise\.weight already has a Pruner on this optimizer; detach\(\)"
    ):
        Pruner(run.model, run.optimizer, schedule=OneShot(0.5), scope=["depthwise", "head"])
    second = Pruner(run.model, run.optimizer, schedule=OneShot(0.5), scope="head")
    run.step()
    assert int((run.model.head.weight == 0).sum()) == second.masks.total_pruned == 160
    run.assert_zero_where_pruned()
    run.pruner.detach()
    Pruner(run.model, run.optimizer, schedule=OneShot(0.5), exclude="head")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"schedule": OneShot(0.5, unit="epoch")},
            BudgetError,
            "steps_per_epoch is None, but the schedule counts in",
        ),
        ({"schedule": ACDC(0.5), "steps_per_epoch": 0}, BudgetError, "steps_per_epoch is 0, but"),
        ({"schedule": Gradual(0.99, end=9), "min_kept": 10}, BudgetError, "needs 50"),
        ({"schedule": Gradual(0.9, end=9), "allocation": "best"}, GpmtError, "best"),
        ({"schedule": OneShot(0.9), "scope": "nothing"}, ScopeError, "nothing"),
    ],
)
def test_impossible_requests_fail_at_construction(
    toy: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    model = toy.model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(error, match=message):
        Pruner(model, optimizer, **options)
    assert not optimizer._optimizer_step_post_hooks
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_diverged_weights_are_an_error_at_the_pruning(toy: Any) -> None:
    run = toy.start(Gradual(0.9, end=2, initial=0.1))
    with torch.no_grad():
        run.model.scale.weight.fill_(math.nan)
    with pytest.raises(WeightsError, match=r"scale\.weight has [\d,]+ NaN"):
        run.optimizer.step()


def test_step_counter_is_not_mistaken_for_momentum() -> None:
    """Adam counts in a floating tensor of no dimension; a pruned weight of one element must not reset it."""

    class Scalar(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Linear(1, 1, bias=False)
            self.many = nn.Linear(1, 8, bias=False)

    model = Scalar()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    with torch.no_grad():
        model.one.weight.fill_(1e-9)
        model.many.weight.fill_(1.0)
    Pruner(model, optimizer, schedule=OneShot("1/9"))
    for _ in range(3):
        (model.one.weight.sum() + model.many.weight.sum()).backward()
        optimizer.step()
    assert model.one.weight.item() == 0
    assert optimizer.state[model.one.weight]["step"] == 3
