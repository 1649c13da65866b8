"""HAM: the multiplicative step of each optimiser, around a method of hard masks."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

import gpmt
from gpmt.errors import MaskError, MethodError
from gpmt.pruner.methods.ham import alphas_of
from gpmt.pruner.methods.hard import Hard
from gpmt.pruner.methods.registry import method_of

Make = Callable[..., torch.optim.Optimizer]
ALTERNATING = gpmt.ACDC(0.8, start=1, period=4, sparse=2, last_restore=3, end=6, unit="step")


def by_hand(model: nn.Module, optimizer: torch.optim.Optimizer, alpha: float | dict[str, float]) -> None:
    """Do the multiplicative step as the formula has it."""
    rate = optimizer.param_groups[0]["lr"]
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim >= 2:
                slope = (alpha if isinstance(alpha, float) else alpha[name]) * weight.sign() * weight.grad
                weight.mul_((rate * (-slope - 1e-3)).clamp(-0.1, 0.1).exp())


def masked(model: nn.Module, masks: gpmt.Masks) -> None:
    with torch.no_grad():
        for name, mask in masks.items():
            weight = model.get_parameter(name)
            weight.copy_(torch.where(mask, weight, 0.0))


@pytest.mark.parametrize("alpha", [30.0, None])
def test_each_step_is_that_of_the_formula(toy: Any, make: Make, alpha: float | None) -> None:
    run = toy.start(gpmt.OneShot(0.5), make=make, method=gpmt.HAM(alpha=alpha))
    model = copy.deepcopy(run.model)
    optimizer = make(model)
    plain = gpmt.Pruner(model, optimizer, masks=run.pruner.masks)
    used = alphas_of({n: p for n, p in model.named_parameters() if p.ndim >= 2}) if alpha is None else alpha
    for step in range(4):
        optimizer.zero_grad()
        toy.loss_at(model, step).backward()
        optimizer.step()
        by_hand(model, optimizer, used)
        assert plain.masks is not None
        masked(model, plain.masks)
        run.step()
        run.assert_zero_where_pruned()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(run.model.state_dict()[name], value, rtol=1e-4, atol=1e-6)


def test_without_alpha_and_beta_nothing_is_added(toy: Any, make: Make) -> None:
    one = toy.start(ALTERNATING, make=make, method=gpmt.HAM(alpha=0, beta=0)).steps(8)
    toy.assert_same(one, toy.start(ALTERNATING, make=make).steps(8))


def test_the_default_alpha_fits_the_size_of_the_weights() -> None:
    """Weights k times as large have alphas k times as small, and no tensor has more than all together."""
    weights = {"small": torch.full((10, 10), 0.01), "large": torch.full((10, 10), -0.5)}
    alphas = alphas_of(weights)
    assert alphas["large"] == pytest.approx(4 / 0.5)
    assert alphas["small"] == pytest.approx(4 / math.sqrt((0.01**2 + 0.5**2) / 2))
    scaled = alphas_of({name: 3 * weight for name, weight in weights.items()})
    assert scaled == pytest.approx({name: alpha / 3 for name, alpha in alphas.items()})
    sparse = {"a": torch.tensor([[0.5, 0.0, 0.0, 0.0]]), "b": torch.zeros(2, 2)}
    assert alphas_of(sparse) == {"a": 8.0, "b": 8.0}
    assert alphas_of({"b": torch.zeros(2, 2)}) == {"b": 0.0}


@pytest.mark.parametrize("at", [1, 4])
@pytest.mark.parametrize("schedule", [ALTERNATING, gpmt.Gradual(0.9, end=6, initial=0.2)])
def test_resume_in_the_middle(toy: Any, schedule: gpmt.Schedule, at: int) -> None:
    whole = toy.start(schedule, method="ham").steps(at)
    states = copy.deepcopy([part.state_dict() for part in (whole.model, whole.optimizer, whole.pruner)])
    whole.steps(9 - at)
    resumed = toy.start(schedule, weights=1, method="ham")
    for part, state in zip((resumed.model, resumed.optimizer, resumed.pruner), states, strict=True):
        part.load_state_dict(state)
    toy.assert_same(whole, resumed.steps(9 - at))
    with pytest.raises(MaskError, match="the state was saved with method="):
        toy.start(schedule).pruner.load_state_dict(states[2])


def test_the_learning_rate_of_each_group_counts(toy: Any) -> None:
    model = toy.model()
    groups = [{"params": [model.head.weight], "lr": 0.0}, {"params": [model.scale.weight]}]
    optimizer = torch.optim.SGD(groups, lr=0.1)  # type: ignore[arg-type]
    before = copy.deepcopy(model.state_dict())
    gpmt.Pruner(
        model, optimizer, schedule=gpmt.OneShot(0.0), method="ham", scope=["head.weight", "scale.weight"]
    )
    toy.loss_at(model, 0).backward()
    optimizer.step()
    assert torch.equal(model.head.weight, before["head.weight"])
    assert not torch.equal(model.scale.weight, before["scale.weight"])


def test_gradients_that_are_climbed(toy: Any) -> None:
    """With maximize=True, the multiplicative step goes the same way as the optimiser's own."""

    def lowered(maximize: bool) -> Tensor:
        model = toy.model()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, maximize=maximize)
        gpmt.Pruner(model, optimizer, schedule=gpmt.OneShot(0.5), method="ham")
        loss = toy.loss_at(model, 0)
        (-loss if maximize else loss).backward()
        optimizer.step()
        return model.scale.weight.detach()

    assert torch.equal(lowered(maximize=True), lowered(maximize=False))


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
def test_a_scaler_does_not_show(toy: Any, kind: Any, fused: bool) -> None:
    """Gradients are unscaled, and a step that is skipped changes nothing."""

    def train(scaled: bool) -> nn.Module:
        model = toy.model()
        optimizer = kind(model.parameters(), lr=0.05, fused=fused)
        gpmt.Pruner(model, optimizer, schedule=gpmt.OneShot(0.5), method="ham")
        scaler = torch.amp.GradScaler("cpu", init_scale=64.0, enabled=scaled, growth_interval=10**6)
        for batch in range(4):
            skipped = batch in (0, 2)
            if skipped and not scaled:
                continue
            before = copy.deepcopy(model.state_dict())
            optimizer.zero_grad()
            loss = toy.loss_at(model.eval(), batch)
            scaler.scale(loss * math.inf if skipped else loss).backward()
            scaler.step(optimizer)
            scaler.update()
            if skipped:
                assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        return model  # type: ignore[no-any-return]

    plain = train(scaled=False).state_dict()
    for name, value in train(scaled=True).state_dict().items():
        torch.testing.assert_close(value, plain[name], rtol=1e-5, atol=1e-7)


class Foreign(torch.optim.Optimizer):
    """Steps with gradients that it unscales itself, and leaves them scaled."""

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, {"lr": lr})
        self._step_supports_amp_scaling = True

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for weight in self.param_groups[0]["params"]:
            weight.sub_(weight.grad / self.grad_scale)


def test_gradients_that_are_still_scaled_are_refused(toy: Any) -> None:
    model = toy.model()
    optimizer = Foreign(model.parameters(), 0.1)
    gpmt.Pruner(model, optimizer, schedule=gpmt.OneShot(0.5), method="ham")
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    scaler.scale(toy.loss_at(model, 0)).backward()
    with pytest.raises(MethodError, match=r"leaves it to Foreign to unscale them; call scaler\.unscale_"):
        scaler.step(optimizer)


def test_a_step_within_a_step_multiplies_once(toy: Any) -> None:
    """Every class's step runs the hooks."""

    class Outer(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            return super().step(closure)

    def train(kind: Any) -> Any:
        return toy.start(
            gpmt.OneShot(0.5), make=lambda model: kind(model.parameters(), lr=0.1), method="ham"
        ).steps(3)

    toy.assert_same(train(Outer), train(torch.optim.SGD))


def test_without_gradients_it_is_refused(toy: Any) -> None:
    run = toy.start(gpmt.OneShot(0.5), method="ham")
    with pytest.raises(
        MethodError,
        match=r"none of the 5 tensors that SGD trains, such as stem\.weight, has a gradient after the first step",
    ):
        run.optimizer.step()


def test_a_sparse_gradient_is_refused() -> None:
    model = nn.Sequential(nn.Embedding(4, 4, sparse=True), nn.Linear(4, 4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    gpmt.Pruner(model, optimizer, schedule=gpmt.OneShot(0.5), method="ham")
    model(torch.tensor([1])).sum().backward()
    with pytest.raises(MethodError, match=r"gradient of 0\.weight is sparse, .* with sparse=False"):
        optimizer.step()


def test_optimisers_that_it_cannot_follow_are_refused(toy: Any) -> None:
    model = toy.model()
    with pytest.raises(MethodError, match="but LBFGS takes one step from several gradients"):
        gpmt.Pruner(model, torch.optim.LBFGS(model.parameters()), schedule=gpmt.OneShot(0.5), method="ham")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    optimizer.param_groups[0]["lr"] = None
    with pytest.raises(MethodError, match="a group of SGD has lr None; use an optimizer with a number there"):
        gpmt.Pruner(model, optimizer, schedule=gpmt.OneShot(0.5), method="ham")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": -1}, "alpha of ham is -1, but must be a number at least 0"),
        ({"alpha": "200"}, "alpha of ham is '200', but"),
        ({"beta": math.nan}, "beta of ham is nan, but"),
        ({"clip": 0}, "clip of ham is 0, but must be a number above 0"),
        ({"inner": "rigl"}, "inner of ham is 'rigl', but must be a gpmt.Method"),
        ({"inner": gpmt.HAM()}, "inner is the method ham; use hard, rigl or set"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(MethodError, match=message):
        gpmt.HAM(**settings)


@dataclass(frozen=True)
class Soft(Hard):
    name: ClassVar[str] = "softened"
    soft: ClassVar[bool] = True


def test_soft_masks_are_refused() -> None:
    with pytest.raises(MethodError, match="works on hard masks, but inner is the method softened"):
        gpmt.HAM(inner=Soft())


@dataclass(frozen=True)
class Counted(Hard):
    """Leaves open when it ends."""

    name: ClassVar[str] = "counted for ham"
    end: int = 0

    def for_training(self, steps: int) -> Counted:
        return Counted(steps)

    @property
    def last(self) -> int:
        return self.end

    def updates_at(self, step: int) -> bool:
        return step == self.end


def test_the_inner_method_is_part_of_it() -> None:
    method = gpmt.HAM(inner=Counted()).for_training(7)
    assert (method.last, method.updates_at(7), method.updates_at(6)) == (7, True, False)
    assert json.loads(json.dumps(method.to_dict()))["inner"] == {"name": "counted for ham", "end": 7}
    assert method_of("hard+ham", alpha=3) == gpmt.HAM(alpha=3)


def test_a_step_with_the_default_explodes_nowhere(toy: Any) -> None:
    """Where the published alpha leaves no finite weight, or very large ones."""

    def largest(method: gpmt.HAM) -> float:
        run = toy.start(
            None,
            make=lambda model: torch.optim.SGD(model.parameters(), lr=0.5),
            method=method,
            masks=gpmt.plan(toy.model(), sparsity=0.5).masks(),
        ).steps(30)
        return max(float(weight.detach().abs().max()) for weight in run.model.parameters())

    assert largest(gpmt.HAM()) < 10
    assert not largest(gpmt.HAM(alpha=200, clip=5)) < 10
