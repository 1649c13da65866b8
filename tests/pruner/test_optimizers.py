"""What is an optimiser for a Pruner, several of them, and those that hold others.

ZeroRedundancyOptimizer is tested in test_pruner_fsdp.py, timm's in tests/integrations.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gpmt.core.schedule.schedule import Gradual, OneShot
from gpmt.errors import MaskError, ScopeError
from gpmt.pruner.pruner import Pruner


class SAM(Optimizer):
    """Sharpness-aware minimisation in the structure that most implementations have (Foret et al. 2021)."""

    def __init__(self, params: Any, base_optimizer: Callable[..., Optimizer], **options: Any) -> None:
        super().__init__(params, dict(rho=0.05, **options))
        self.base_optimizer = base_optimizer(self.param_groups, **options)
        self.param_groups = self.base_optimizer.param_groups

    @torch.no_grad()
    def first_step(self, zero_grad: bool = False) -> None:
        """Climb to where the loss is largest nearby."""
        for group in self.param_groups:
            norm = torch.stack([p.grad.norm() for p in group["params"]]).norm()
            for p in group["params"]:
                self.state[p]["old"] = p.clone()
                p.add_(p.grad * group["rho"] / norm)
        if zero_grad:
            self.zero_grad()

    @torch.no_grad()
    def second_step(self, zero_grad: bool = False) -> None:
        """Go back, and step with the gradient from there."""
        for group in self.param_groups:
            for p in group["params"]:
                p.copy_(self.state[p]["old"])
        self.base_optimizer.step()
        if zero_grad:
            self.zero_grad()

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Do both halves."""
        closure = torch.enable_grad()(closure)
        self.first_step(zero_grad=True)
        closure()
        self.second_step()


class NotAnOptimizer:
    """A wrapper in the structure of schedulefree's ScheduleFreeWrapper."""

    def __init__(self, base: Optimizer) -> None:
        self.base = base

    @property
    def param_groups(self) -> Any:
        return self.base.param_groups

    @property
    def state(self) -> Any:
        return self.base.state


class WithoutHooks(Optimizer):
    """A Lookahead that skips the constructor of Optimizer, as torch_optimizer's does."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        self.param_groups = optimizer.param_groups


def sgd(parameters: Any) -> Optimizer:
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


def pruned_are_zero(pruner: Pruner, model: nn.Module) -> bool:
    assert pruner.masks is not None
    return not any(bool(model.get_parameter(name)[~mask].any()) for name, mask in pruner.masks.items())


def test_optimizer_prepared_by_accelerate(toy: Any) -> None:
    accelerate = pytest.importorskip("accelerate")
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=2)
    model = toy.model()
    model, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))
    pruner = Pruner(model, optimizer, schedule=Gradual(0.9, end=3, initial=0.5))
    for batch in range(8):
        with accelerator.accumulate(model):
            accelerator.backward(toy.loss_at(model, batch))
            optimizer.step()
            optimizer.zero_grad()
    assert pruner.step_count == 4
    run = toy.run(accelerator.unwrap_model(model), optimizer, pruner)
    assert run.assert_zero_where_pruned() == 10
    assert run.zeros() == 0.9 * toy.numel


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_optimizer_wrapped_by_lightning(toy: Any) -> None:
    fabric = pytest.importorskip("lightning.fabric").Fabric(accelerator="cpu", devices=1)
    model = toy.model()
    wrapped, optimizer = fabric.setup(model, sgd(model.parameters()))
    pruner = Pruner(model, optimizer, schedule=OneShot(0.9))
    for step in range(3):
        optimizer.zero_grad()
        fabric.backward(toy.loss_at(wrapped, step))
        optimizer.step()
    assert pruner.step_count == 3
    assert pruned_are_zero(pruner, model)


@pytest.mark.parametrize("order", [[0, 1], [1, 0]], ids=["in order", "the other way round"])
def test_several_optimizers(toy: Any, order: list[int]) -> None:
    """Weights are zero after the step of each, whichever comes first; the first of the list counts."""
    model = toy.model()
    head = [*model.head.parameters(), *model.scale.parameters()]
    rest = [p for p in model.parameters() if all(p is not other for other in head)]
    optimizers = [sgd(rest), torch.optim.AdamW(head, lr=0.01)]
    pruner = Pruner(model, optimizers, schedule=Gradual(0.9, end=6, interval=2, initial=0.1))
    for step in range(8):
        toy.loss_at(model, step).backward()
        for index in order:
            optimizers[index].step()
            assert pruned_are_zero(pruner, model)
            assert pruner.step_count == step + (index == 0 or order.index(0) < order.index(index))
        for optimizer in optimizers:
            optimizer.zero_grad()
    assert pruner.masks is not None
    assert pruner.masks.total_pruned == 0.9 * toy.numel
    for name, mask in pruner.masks.items():
        weight = model.get_parameter(name)
        state = {**optimizers[0].state, **optimizers[1].state}[weight]
        assert all(not value[~mask].any() for value in state.values() if value.shape == weight.shape)


def test_several_optimizers_are_copied_and_detached_together(toy: Any) -> None:
    model = toy.model()
    parameters = list(model.parameters())
    optimizers = [sgd(parameters[:4]), sgd(parameters[4:])]
    pruner = Pruner(model, optimizers, schedule=OneShot(0.9))
    twin, (first, second), copied = copy.deepcopy((model, optimizers, pruner))
    for step in range(2):
        toy.loss_at(twin, step).backward()
        first.step()
        second.step()
        assert pruned_are_zero(copied, twin)
    assert (copied.step_count, pruner.step_count) == (2, 0)
    copied.detach()
    toy.loss_at(twin, 3).backward()
    second.step()
    assert not pruned_are_zero(copied, twin)
    with pytest.raises(MaskError, match="already has a Pruner on this optimizer"):
        Pruner(model, [optimizers[1], optimizers[0]], schedule=OneShot(0.5))


def test_an_optimizer_given_twice_counts_once(toy: Any) -> None:
    model = toy.model()
    optimizer = sgd(model.parameters())
    pruner = Pruner(model, [optimizer, optimizer], schedule=OneShot(0.5))
    toy.loss_at(model, 0).backward()
    optimizer.step()
    assert pruner.step_count == 1


def test_a_step_that_calls_that_of_its_base_class_counts_once(toy: Any) -> None:
    """Both run the hooks of the optimiser."""

    class Mine(torch.optim.AdamW):
        @torch.no_grad()
        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            """Step, and move every weight afterwards."""
            super().step(closure)
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter.add_(0.01)

    model = toy.model()
    optimizer = Mine(model.parameters(), lr=0.01)
    pruner = Pruner(model, optimizer, schedule=Gradual(0.9, end=4, initial=0.5))
    for step in range(5):
        toy.loss_at(model, step).backward()
        optimizer.step()
        assert pruner.step_count == step + 1
        assert pruned_are_zero(pruner, model)
    assert pruner.masks is not None
    assert pruner.masks.total_pruned == 0.9 * toy.numel


@pytest.mark.parametrize("form", ["closure", "two steps"])
def test_sam_in_both_forms(toy: Any, form: str) -> None:
    model = toy.model()
    optimizer = SAM(model.parameters(), torch.optim.SGD, lr=0.1, momentum=0.9)
    pruner = Pruner(model, optimizer, schedule=Gradual(0.9, end=3, initial=0.5))
    for step in range(5):

        def closure(step: int = step) -> Tensor:
            loss: Tensor = toy.loss_at(model, step)
            loss.backward()
            return loss

        closure()
        if form == "closure":
            optimizer.step(closure)
        else:
            optimizer.first_step(zero_grad=True)
            closure()
            optimizer.second_step(zero_grad=True)
        optimizer.zero_grad()
        assert pruner.step_count == step + 1
        assert pruned_are_zero(pruner, model)
    assert pruner.masks is not None
    assert pruner.masks.total_pruned == 0.9 * toy.numel
    mask, weight = pruner.masks["head.weight"], model.head.weight
    assert not optimizer.base_optimizer.state[weight]["momentum_buffer"][~mask].any()


class Regression:
    """A matrix of 96 weights fitted to data by L-BFGS."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.inputs, self.targets = torch.randn(40, 12).double(), torch.randn(40, 8).double()
        self.model = nn.Linear(12, 8, bias=False).double()

    def closure(self, optimizer: Optimizer, weight: Callable[[], Tensor]) -> Callable[[], Tensor]:
        def evaluate() -> Tensor:
            optimizer.zero_grad()
            loss = (self.inputs @ weight().T - self.targets).square().mean()
            loss.backward()
            return loss.detach()

        return evaluate


@pytest.mark.parametrize("line_search", [None, "strong_wolfe"])
def test_lbfgs_is_lbfgs_on_the_kept_weights(line_search: str | None) -> None:
    """Its closure never sees a pruned weight, so it goes as on a network that has the kept weights only."""
    data = Regression()
    options = {"lr": 1 if line_search else 0.5, "max_iter": 6, "line_search_fn": line_search}
    optimizer = torch.optim.LBFGS(data.model.parameters(), **options)
    pruner = Pruner(data.model, optimizer, schedule=OneShot(0.75))
    assert pruner.masks is not None
    mask = pruner.masks["weight"]
    kept = nn.Parameter(data.model.weight.detach()[mask])
    alone = torch.optim.LBFGS([kept], **options)
    seen: list[bool] = []

    def look() -> Tensor:
        seen.append(pruned_are_zero(pruner, data.model))
        return data.model.weight

    for _ in range(3):
        optimizer.step(data.closure(optimizer, look))
        alone.step(data.closure(alone, lambda: torch.zeros(8, 12).double().masked_scatter(mask, kept)))
        assert torch.allclose(data.model.weight.detach()[mask], kept.detach(), rtol=1e-6)
    assert all(seen)
    assert len(seen) > 12


def test_lbfgs_forgets_earlier_steps_when_the_masks_change() -> None:
    data = Regression()
    optimizer = torch.optim.LBFGS(data.model.parameters(), max_iter=5, line_search_fn="strong_wolfe")
    pruner = Pruner(data.model, optimizer, schedule=OneShot(0.75, at=2))
    closure = data.closure(optimizer, lambda: data.model.weight)
    optimizer.step(closure)
    [state] = optimizer.state.values()
    assert state["n_iter"] > 1
    optimizer.step(closure)
    assert pruner.masks is not None
    assert not optimizer.state
    losses = [float(optimizer.step(closure)) for _ in range(3)]
    assert losses == sorted(losses, reverse=True)
    assert pruned_are_zero(pruner, data.model)


def test_an_optimizer_of_another_model_is_refused(toy: Any) -> None:
    model = toy.model()
    optimizer = sgd(copy.deepcopy(model).parameters())
    with pytest.raises(
        ScopeError,
        match=r"SGD trains none of the 5 prunable tensors, such as stem\.weight; make it from the parameters of",
    ):
        Pruner(model, optimizer, schedule=OneShot(0.9))
    assert not any(bool((p == 0).any()) for name, p in model.named_parameters() if p.ndim > 1)
    model.requires_grad_(False)  # nothing can train them, so they are pruned on the schedule all the same
    Pruner(model, optimizer, schedule=OneShot(0.9))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda _: None, "optimizer is None, but a Pruner needs a torch.optim.Optimizer whose step() it can"),
        (
            lambda _: torch.optim.SGD,
            "optimizer is the class SGD, but must be one made from the parameters of the",
        ),
        (lambda _: [], "optimizer is an empty list; give each optimizer that trains the pruned weights"),
        (lambda p: [sgd(p), None], "optimizer[1] is None, but a Pruner needs"),
        (lambda p: {"a": sgd(p)}, "optimizer is of type dict, but a Pruner needs"),
        (
            lambda p: NotAnOptimizer(sgd(p)),
            "optimizer is of type NotAnOptimizer, which is not a torch.optim.Optimizer although it holds one as "
            ".base, but a Pruner needs a torch.optim.Optimizer whose step() it can follow, or a list of them; give "
            "the",
        ),
        (
            lambda p: WithoutHooks(sgd(p)),
            "optimizer is of type WithoutHooks, which runs no hooks after its steps (it skips the constructor of",
        ),
    ],
)
def test_what_is_no_optimizer_is_refused(toy: Any, make: Callable[[Any], Any], message: str) -> None:
    model = toy.model()
    with pytest.raises(ScopeError, match="^" + re.escape(message)):
        Pruner(model, make(model.parameters()), schedule=OneShot(0.9))
