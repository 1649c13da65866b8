"""Soft masks: the model is T of dense weights that train on, with exact counts at every step."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.oracle import keep
from tests.pruner.methods.soft_runs import METHODS, NUMEL, Net, Run, assert_same, loss_at
from torch import Tensor, nn
from torch.nn import functional as F

import gpmt
from gpmt.core.blocks.blocks import WHOLE, Blocks, Split
from gpmt.core.schedule.schedule import Gradual, OneShot

VALUES = st.sampled_from([0.0, 0.5, -0.5, 1.0, -2.0]) | st.floats(-4, 4, width=16)


@settings(max_examples=30)
@given(st.data())
def test_weights_are_those_of_a_full_sort(data: st.DataObject) -> None:
    """Blocks, ties and floors; the threshold of a block is below its smallest kept weight, as no other is given."""
    model, blocks = nn.Module(), {}
    for name in ("a", "b"):
        rows, columns = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 3))
        layer = nn.Linear(columns, rows, bias=False)
        values = data.draw(st.lists(VALUES, min_size=rows * columns, max_size=rows * columns))
        layer.weight = nn.Parameter(torch.tensor(values).view(rows, columns))
        model.add_module(name, layer)
        if rows > 1 and data.draw(st.booleans()):
            blocks[f"{name}.weight"] = Blocks((Split(0, (1, rows - 1)),))
    dense = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    floor = data.draw(st.integers(0, 1))
    sparsity = data.draw(st.sampled_from(["0.1", "0.5", "0.7"]))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    views = [view for name, w in dense.items() for view in blocks.get(name, WHOLE).views(w)]
    numel, floors = sum(v.numel() for v in views), [min(floor, v.numel()) for v in views]
    total = numel - int(float(sparsity) * numel)
    if sum(floors) > total:
        return
    with warnings.catch_warnings(action="ignore"):
        pruner = gpmt.Pruner(
            model,
            optimizer,
            schedule=OneShot(sparsity),
            method=gpmt.ST3(rescale=False),
            min_kept=floor,
            blocks=blocks,
        )
    masks = keep([v.flatten().double().numpy() for v in views], total=total, floors=floors)
    shown = [v for name, w in model.named_parameters() for v in blocks.get(name, WHOLE).views(w.detach())]
    # One threshold of all blocks that no floor binds: just below the smallest weight kept by the ranking.
    assert pruner.plan is not None
    for view, now, mask, row in zip(views, shown, masks, pruner.plan.blocks, strict=True):
        kept = torch.from_numpy(mask).view(view.shape)
        assert torch.equal(now != 0, kept & (view != 0))
        if kept.all() or not kept.any():
            assert torch.equal(now, view * kept)
            continue
        limit = view.abs()[kept].min() if row.binds else torch.tensor(pruner.plan.threshold or 0.0)
        if not row.binds and pruner.plan.threshold is None:
            continue
        lost = (view - now).abs()[kept & (view != 0)]
        assert torch.allclose(lost, limit, atol=1e-6)


@pytest.mark.parametrize("method", METHODS, ids=str)
@pytest.mark.parametrize(
    "options", [{}, {"min_kept": 20}, {"within": "tensor"}, {"allocation": "erk"}], ids=str
)
def test_counts_are_exact_at_every_step(method: gpmt.Method, options: dict[str, Any]) -> None:
    run = Run(method, Gradual(0.9, end=4, initial=0.3), **options)
    schedule = run.pruner.schedule
    assert schedule is not None
    seen = set()
    for step in range(8):
        event = schedule.event(min(step, 4))
        assert event is not None
        assert event.sparsity is not None
        sizes = [72, 320] if options.get("within") else [NUMEL]
        run.assert_exact(sum(int(event.sparsity * size) for size in sizes))
        assert run.pruner.plan is not None
        assert run.pruner.plan.masks() == run.pruner.masks
        seen.add(run.pruner.masks.digest())
        run.steps()
    assert len(seen) > 5  # also after the last event


class StraightThrough(torch.autograd.Function):
    """A layer's weight as Feather defines it, by autograd and sorting."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, threshold: Tensor, theta: float) -> Tensor:
        kept = weight.abs() > threshold
        ctx.scale = torch.where(kept, 1.0, theta)
        return torch.where(kept, weight.sign() * (weight.abs() ** 3 - threshold**3) ** (1 / 3), 0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gradients[0] * ctx.scale, None, None


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.AdamW])
def test_training_is_that_of_a_straight_through_estimator(make: Any) -> None:
    run = Run(gpmt.Feather(theta=0.5), OneShot(0.8), make=make)
    twin = Net()
    given = {"momentum": 0.9} if make is torch.optim.SGD else {}
    optimizer = make(twin.parameters(), lr=0.05, weight_decay=1e-2, **given)
    names = ["conv.weight", "head.weight"]
    for step in range(5):
        weights = {name: twin.get_parameter(name) for name in names}
        magnitudes = torch.cat([w.detach().abs().flatten() for w in weights.values()])
        threshold = torch.nextafter(magnitudes.sort().values[int(0.8 * NUMEL)], torch.zeros(()))
        used = {name: StraightThrough.apply(w, threshold, 0.5) for name, w in weights.items()}
        for name, weight in used.items():
            torch.testing.assert_close(run.model.get_parameter(name), weight, rtol=2e-3, atol=1e-3)
        optimizer.zero_grad()
        others = {name: p for name, p in twin.named_parameters() if name not in names}
        generator = torch.Generator().manual_seed(step)
        images = torch.randn(6, 1, 4, 4, generator=generator)
        labels = torch.randint(10, (6,), generator=generator)
        F.cross_entropy(torch.func.functional_call(twin, {**used, **others}, images), labels).backward()
        optimizer.step()
        run.steps()
        for name in names:
            torch.testing.assert_close(run.dense()[name], twin.get_parameter(name), rtol=1e-3, atol=1e-3)


def test_theta_scales_gradients_of_pruned_weights_only() -> None:
    run = Run(gpmt.Feather(theta=0.25), OneShot(0.8))
    run.optimizer.zero_grad()
    loss_at(run.model, 0).backward()
    gradient = run.model.head.weight.grad
    assert gradient is not None
    before, mask = gradient.clone(), run.model.head.weight != 0
    run.optimizer.step()
    assert torch.equal(gradient, torch.where(mask, before, before * 0.25))


def test_a_closure_sees_the_sparse_network() -> None:
    plain, closed = Run(gpmt.Feather(theta=0.5)).steps(6), Run(gpmt.Feather(theta=0.5))
    for step in range(6):

        def closure(step: int = step) -> Tensor:
            closed.optimizer.zero_grad()
            loss = loss_at(closed.model, step)
            loss.backward()
            return loss

        closed.optimizer.step(closure)
    assert_same(plain, closed)


def test_steps_of_a_subclass_that_call_the_base_class() -> None:
    class Twice(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            found = super().step(closure)
            with torch.no_grad():
                for parameter in self.param_groups[0]["params"]:
                    parameter.mul_(0.99)
            return found

    run = Run(make=Twice).steps(6)
    run.assert_exact(int(0.9 * NUMEL))
    twin = Run()
    for _ in range(6):
        before = {name: run.dense()[name] for name in run.dense()}
        twin.steps()
    assert before.keys() == {"conv.weight", "head.weight"}
    assert any(not torch.equal(twin.dense()[name], before[name]) for name in before)


def test_several_optimisers_each_train_their_own() -> None:
    model = Net()
    parts = [
        torch.optim.SGD(model.conv.parameters(), lr=0.05, momentum=0.9),
        torch.optim.Adam([*model.norm.parameters(), *model.head.parameters()], lr=0.01),
    ]
    method = gpmt.Feather(theta=0.5)
    pruner = gpmt.Pruner(model, parts, schedule=OneShot(0.8), method=method)
    for step in range(3):
        for part in parts:
            part.zero_grad()
        loss_at(model, step).backward()
        head = model.head.weight
        assert head.grad is not None
        before, mask = head.grad.clone(), head.detach() != 0
        for part in parts:
            part.step()
            masks = pruner.masks
            assert masks is not None
            assert masks.total_pruned == int(0.8 * NUMEL)
            assert all(torch.equal(model.get_parameter(name) != 0, mask) for name, mask in masks.items())
        assert torch.equal(head.grad, torch.where(mask, before, before * 0.5))  # once
    assert pruner.step_count == 3


@pytest.mark.parametrize("fused", [False, True])
def test_skipped_steps_of_a_scaler_change_nothing(fused: bool) -> None:
    run = Run(gpmt.Feather(theta=0.5), Gradual(0.9, end=3, initial=0.5), make=_adam(fused))
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    for step in range(6):
        run.optimizer.zero_grad()
        loss = loss_at(run.model, step)
        before = run.tensors()
        scaler.scale(loss * torch.inf if step in (1, 4) else loss).backward()
        scaler.step(run.optimizer)
        scaler.update()
        same = [torch.equal(value, before[name]) for name, value in run.tensors().items() if name in before]
        assert all(same) == (step in (1, 4))
    assert run.pruner.step_count == 4
    run.assert_exact(int(0.9 * NUMEL))


def _adam(fused: bool) -> Callable[..., torch.optim.Optimizer]:
    return lambda parameters, **options: torch.optim.AdamW(parameters, fused=fused, **options)


def test_gradients_that_accumulate_are_scaled_once() -> None:
    whole, halves = Run(gpmt.Feather(theta=0.5)).steps(4), Run(gpmt.Feather(theta=0.5))
    for step in range(4):
        halves.optimizer.zero_grad()
        for _ in range(2):
            halves.model.norm.eval() if _ else halves.model.norm.train()
            (loss_at(halves.model, step) / 2).backward()
        halves.model.norm.train()
        halves.optimizer.step()
        halves.assert_exact(halves.pruner.masks.total_pruned)  # type: ignore[union-attr]
    assert halves.pruner.step_count == whole.pruner.step_count == 4
