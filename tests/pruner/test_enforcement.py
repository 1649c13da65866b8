"""Pruned weights and what the optimiser remembers of them are exactly zero after every step."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
import torch
from tests.quantised import QuantisedTensor
from torch import nn

from gpmt.core.schedule.schedule import Gradual, OneShot
from gpmt.errors import MaskError
from gpmt.pruner.pruner import Pruner
from gpmt.warning import GpmtWarning

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


def test_columns_stay_pruned_as_a_whole(toy: Any) -> None:
    run = toy.start(Gradual(0.5, end=3, initial=0.1), scope="type:Linear", granularity="column").steps(5)
    for mask in run.pruner.masks.values():
        assert torch.equal(mask.any(dim=0), mask.all(dim=0))
    columns = sum(int((~mask[0]).sum()) for mask in run.pruner.masks.values())
    assert columns == run.pruner.plan.pruned == (32 + 10) // 2
    run.assert_zero_where_pruned()


@pytest.mark.parametrize("format_", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("chunk", [1, 30, 72, 200])
def test_masking_in_chunks_changes_nothing(
    toy: Any, monkeypatch: pytest.MonkeyPatch, chunk: int, format_: torch.memory_format
) -> None:
    """Tensors of more weights than go at a time, whether or not their rows divide evenly."""
    whole = toy.start(Gradual(0.9, end=4), model=toy.model().to(memory_format=format_)).steps(6)
    monkeypatch.setattr("gpmt.pruner.enforcement.CHUNK", chunk)
    parts = toy.start(Gradual(0.9, end=4), model=toy.model().to(memory_format=format_)).steps(6)
    toy.assert_same(whole, parts)
    parts.assert_zero_where_pruned()


def test_momentum_from_before_the_pruner_is_cleared(toy: Any, make: Make) -> None:
    model = toy.model()
    optimizer = make(model)
    toy.loss_at(model, 0).backward()
    optimizer.step()
    run = toy.run(model, optimizer, Pruner(model, optimizer, schedule=OneShot(0.9)))
    assert run.assert_zero_where_pruned() == 5 * (1 + STATES[make.__name__])


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
    with pytest.warns(GpmtWarning, match=r"no weight in 1 of 2 tensors \(one\.weight\)"):
        Pruner(model, optimizer, schedule=OneShot("1/9"))
    for _ in range(3):
        (model.one.weight.sum() + model.many.weight.sum()).backward()
        optimizer.step()
    assert model.one.weight.item() == 0
    assert optimizer.state[model.one.weight]["step"] == 3


class QuantisedAdam(torch.optim.SGD):
    """Momentum kept in 8 bits, in a tensor subclass as torchao keeps it."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Step, and quantise the state."""
        super().step(closure)
        for state in self.state.values():
            state["momentum_buffer"] = QuantisedTensor.of(state["momentum_buffer"].clone())


@pytest.mark.parametrize(
    "schedule", [OneShot(0.9), Gradual(0.9, start=5, end=9)], ids=["sparse", "still dense"]
)
def test_quantised_state_is_refused_at_the_first_step(toy: Any, schedule: Any) -> None:
    run = toy.start(schedule, make=lambda model: QuantisedAdam(model.parameters(), lr=0.1, momentum=0.9))
    with pytest.raises(
        MaskError,
        match=r"^QuantisedAdam keeps its state of stem\.weight as QuantisedTensor, in which pruned weights cannot be "
        r"set to zero; use an optimizer whose state is plain tensors$",
    ):
        run.step()
