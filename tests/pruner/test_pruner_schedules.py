"""When the Pruner prunes: its clock counts steps of the optimiser."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import pytest
import torch

from gpmt.core.schedule.schedule import ACDC, Gradual, OneShot


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


SHORT = ACDC(0.8, start=1, period=4, sparse=2, last_restore=3, end=6, unit="step")


def test_weights_train_again_after_acdc_restores(toy: Any) -> None:
    """From zero, but those of outputs that had none left, which are as they were."""
    run = toy.start(SHORT).steps(1)
    masks = run.pruner.masks
    trained = toy.start(OneShot(0.0)).steps(1).model
    run.steps(2)
    assert run.pruner.masks is None
    lost = 0
    for name, mask in masks.items():
        weight, before = run.model.get_parameter(name).detach(), trained.get_parameter(name).detach()
        outputs = ~mask.flatten(1).any(1)
        lost += int(outputs.sum())
        assert torch.equal(weight[outputs], before[outputs])
        assert not weight[~outputs][~mask[~outputs]].any()
    assert lost
    assert run.steps(2).zeros() < 0.4 * toy.numel


def test_a_dense_phase_begins_without_momentum(toy: Any, make: Any) -> None:
    """In any tensor, those of norms and biases too; second moments stay."""
    run = toy.start(SHORT, make=make).steps(2)
    assert all(value.any() for value in averages(run, "momentum_buffer", "exp_avg"))
    run.steps(1)
    assert not any(value.any() for value in averages(run, "momentum_buffer", "exp_avg"))
    assert all(value.any() for value in averages(run, "exp_avg_sq", "max_exp_avg_sq"))
    run.steps(1)
    assert all(value.any() for value in averages(run, "momentum_buffer", "exp_avg"))


def averages(run: Any, *names: str) -> list[torch.Tensor]:
    states = run.optimizer.state.values()
    return [value for state in states for name, value in state.items() if name in names and value is not None]


def test_a_first_step_straight_to_seventy_percent(toy: Any) -> None:
    """Then cubic at every interval, as the authors of oBERT prune transformers (Kurtic et al. 2022)."""
    run = toy.start(Gradual(0.9, start=2, end=26, interval=4, initial=0.7))
    found: list[int] = []
    for _ in range(28):
        masks = run.step() or run.pruner.masks
        found.append(0 if masks is None else masks.total_pruned)
    expected = {
        2 + 4 * index: Fraction(9, 10) - Fraction(1, 5) * (1 - Fraction(index, 6)) ** 3 for index in range(7)
    }
    last = 0
    for step, pruned in enumerate(found, 1):
        last = math.floor(expected[step] * toy.numel) if step in expected else last
        assert pruned == last
    assert (found[1], found[-1]) == (980, 1260)


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
