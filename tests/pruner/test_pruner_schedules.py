"""When the Pruner prunes: its clock counts steps of the optimiser."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import pytest
import torch

from gpmt.core.schedule import ACDC, Gradual, OneShot


def test_masks_only_shrink_on_a_gradual_schedule(toy: Any) -> None:
    run = toy.start(Gradual(0.95, start=1, end=8, initial=0.2))
    previous = None
    for _ in range(10):
        run.step()
        if previous is not None:
            assert run.pruner.masks <= previous
        previous = run.pruner.masks
    assert run.pruner.masks.total_pruned == math.floor(Fraction(95, 100) * toy.numel)


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


def test_detach_stops_the_clock_and_frees_the_weights(toy: Any) -> None:
    run = toy.start(OneShot(0.9)).steps(1)
    run.pruner.detach()
    run.pruner.detach()
    toy.loss_at(run.model, 1).backward()
    run.optimizer.step()
    assert run.pruner.step_count == 1
    assert run.zeros() < 0.9 * toy.numel
