"""CrAM against a version written out by hand, and what it leaves alone."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.pruner.conftest import Toy, loss_at, sgd, small_net
from torch import Tensor, nn
from torch.nn import functional as F

import gpmt
from gpmt.core.schedule.schedule import OneShot
from gpmt.errors import BudgetError, GpmtError, MethodError, ScopeError
from gpmt.pruner.cram import CrAM
from gpmt.pruner.pruner import Pruner
from gpmt.warning import GpmtWarning

PRUNED = ("stem.weight", "depthwise.weight", "pointwise.weight", "head.weight", "scale.weight")


def closure_of(model: nn.Module, cram: CrAM) -> Callable[[], Tensor]:
    def closure() -> Tensor:
        loss = loss_at(model, cram.step_count)
        loss.backward()
        return loss

    return closure


def train(model: nn.Module, steps: int, make: Callable[..., Any] = sgd, **options: Any) -> CrAM:
    cram = CrAM(model, make(model), **options)
    for _ in range(steps):
        cram.step(closure_of(model, cram))
    return cram


def largest(weights: dict[str, Tensor], sparsity: float, floor: int = 0) -> dict[str, Tensor]:
    """Return bool masks of the largest weights by sorting all, the slow way."""
    places = [
        (-abs(value), name, index)
        for name, weight in weights.items()
        for index, value in enumerate(weight.flatten().tolist())
    ]
    order = {name: place for place, name in enumerate(weights)}
    places.sort(key=lambda place: (place[0], order[place[1]], place[2]))
    total = len(places) - int(round(sparsity * 1000) * len(places) // 1000)
    counts = dict.fromkeys(weights, 0)
    chosen = set()
    for _, name, index in places:  # the floors come first
        if counts[name] < floor:
            counts[name] += 1
            chosen.add((name, index))
    for _, name, index in places:
        if len(chosen) < total:
            chosen.add((name, index))
    masks = {name: torch.zeros(weight.numel(), dtype=torch.bool) for name, weight in weights.items()}
    for name, index in chosen:
        masks[name][index] = True
    return {name: mask.view(weights[name].shape) for name, mask in masks.items()}


def by_hand(
    model: nn.Module, optimizer: torch.optim.Optimizer, step: int, sparsity: float, rho: float, floor: int
) -> None:
    """Do one step with networks that are copied, not changed."""
    moved = copy.deepcopy(model)
    loss_at(model, step).backward()
    parameters = dict(model.named_parameters())
    for name, parameter in moved.named_parameters():
        gradient = parameters[name].grad
        assert gradient is not None
        parameter.data = torch.add(parameter.data, gradient, alpha=rho)
    masks = largest({name: moved.get_parameter(name).data for name in PRUNED}, sparsity, floor)
    for name, mask in masks.items():
        moved.get_parameter(name).data *= mask
    loss_at(moved, step).backward()
    for name, parameter in moved.named_parameters():
        gradient, mine = parameter.grad, parameters[name].grad
        assert gradient is not None
        assert mine is not None
        parameters[name].grad = mine + (gradient * masks[name] if name in masks else gradient)
    optimizer.step()
    optimizer.zero_grad()


@pytest.mark.parametrize("floor", [0, 20])
def test_it_is_the_version_by_hand(make: Callable[..., Any], floor: int) -> None:
    model, slow = small_net(), small_net()
    cram = train(model, 4, make, min_kept=floor, rho=0.3)
    optimizer = make(slow)
    for step in range(4):
        by_hand(slow, optimizer, step, cram.sparsity_at(step), 0.3, floor)
    expected = slow.state_dict()
    for name, value in model.state_dict().items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize("sparsity", [0.5, 0.7, 0.9])
def test_counts_are_exact_with_floors(toy: Toy, sparsity: float) -> None:
    cram = train(small_net(), 2, sparsities=(sparsity,), min_kept=20)
    assert cram.masks is not None
    assert cram.masks.total_pruned == round(sparsity * toy.numel)
    assert min(cram.masks.kept(name) for name in cram.masks) >= 20


def test_weights_stay_dense_and_buffers_are_of_the_dense_pass() -> None:
    model, plain = small_net(), small_net()
    cram = CrAM(model, sgd(model))
    before = [each.detach().clone() for each in model.parameters()]
    loss = cram.gradients(closure_of(model, cram))
    assert loss == loss_at(plain, 0)  # which leaves the statistics of the plain pass in `plain`
    for name, buffer in plain.named_buffers():
        assert torch.equal(model.get_buffer(name), buffer), name
    assert all(torch.equal(*pair) for pair in zip(model.parameters(), before, strict=True))
    cram.optimizer.step()
    assert all(bool((each != 0).all()) for each in model.parameters())


def test_buffers_that_a_forward_pass_replaces_are_put_back() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            self.calls = self.calls + 1
            return self.layer(x)

    model = Counting()
    cram = CrAM(model, sgd(model))
    cram.step(lambda: model(torch.ones(2, 4)).square().sum().backward())
    assert model.calls == 1


def test_frozen_weights_are_pruned_for_a_pass_and_put_back() -> None:
    model = small_net()
    model.head.weight.requires_grad_(False)
    before = model.head.weight.clone()
    seen = []
    cram = CrAM(model, torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1))

    def closure() -> None:
        seen.append(int((model.head.weight == 0).sum()))
        loss_at(model, 0).backward()

    cram.step(closure)
    assert seen[0] == 0 < seen[1]
    assert torch.equal(model.head.weight, before)


def test_draws_are_of_the_seed_and_the_step_alone() -> None:
    model = small_net()
    one, other, third = (CrAM(model, sgd(model), seed=seed) for seed in (1, 1, 2))
    drawn = [[cram.sparsity_at(step) for step in range(900)] for cram in (one, other, third)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert all(250 < drawn[0].count(sparsity) < 350 for sparsity in (0.5, 0.7, 0.9))


def test_it_resumes_bit_for_bit() -> None:
    whole = small_net()
    train(whole, 6, seed=3)
    model = small_net()
    cram = train(model, 3, seed=3)
    saved = copy.deepcopy((model.state_dict(), cram.optimizer.state_dict(), cram.state_dict()))
    model = small_net(seed=9)
    cram = CrAM(model, sgd(model), seed=3)
    for part, state in zip((model, cram.optimizer, cram), saved, strict=True):
        part.load_state_dict(state)
    for _ in range(3):
        cram.step(closure_of(model, cram))
    expected = whole.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("options", "name"), [({"seed": 1}, "seed"), ({"rho": 0.1}, "rho"), ({"min_kept": 5}, "min_kept")]
)
def test_it_refuses_a_state_of_other_settings(options: dict[str, Any], name: str) -> None:
    model = small_net()
    state = CrAM(model, sgd(model)).state_dict()
    with pytest.raises(MethodError, match=f"saved with {name}="):
        CrAM(model, sgd(model), **options).load_state_dict(state)
    with pytest.raises(MethodError, match=r"version None and keys \['a'\]"):
        CrAM(model, sgd(model)).load_state_dict({"a": 1})


def test_parts_of_a_batch_accumulate_in_the_closure() -> None:
    torch.manual_seed(0)
    images, labels = torch.randn(8, 6), torch.randint(4, (8,))
    networks = [nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 4)) for _ in range(2)]
    networks[1].load_state_dict(networks[0].state_dict())
    for network, parts in zip(networks, (1, 4), strict=True):
        cram = CrAM(network, sgd(network), min_kept=4)

        def closure(network: nn.Module = network, parts: int = parts) -> None:
            for x, y in zip(images.chunk(parts), labels.chunk(parts), strict=True):
                (F.cross_entropy(network(x), y) / parts).backward()

        for _ in range(3):
            cram.step(closure)
    for one, other in zip(*(network.parameters() for network in networks), strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("outside", [False, True])
def test_autocast_sees_the_pruned_weights(outside: bool) -> None:
    """Casts that autocast keeps are those of weights at another time."""
    outputs = []
    model = nn.Linear(16, 16)
    cram = CrAM(model, sgd(model), sparsities=(0.9,), rho=0)

    def closure() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            out = model(torch.ones(1, 16))
        outputs.append(out.detach())
        loss = out.float().square().sum()
        loss.backward()
        return loss

    dense = model.weight.detach().clone()
    with torch.autocast("cpu", torch.bfloat16, enabled=outside):
        cram.gradients(closure)
    with torch.autocast("cpu", torch.bfloat16):
        after = model(torch.ones(1, 16)).detach()
    assert outputs[0].dtype == torch.bfloat16
    assert torch.equal(after, outputs[0])
    assert cram.masks is not None
    pruned = F.linear(torch.ones(1, 16), dense * cram.masks["weight"], model.bias)
    assert torch.allclose(outputs[1].float(), pruned, atol=0.05)
    assert not torch.allclose(outputs[0].float(), pruned, atol=0.05)


@pytest.mark.slow
def test_a_compiled_network_trains_alike() -> None:
    model, compiled = small_net(), small_net()
    train(model, 2)
    train(torch.compile(compiled, backend="eager"), 2)
    assert all(torch.equal(*pair) for pair in zip(model.parameters(), compiled.parameters(), strict=True))


def test_gradients_can_be_clipped_before_the_step() -> None:
    model = small_net()
    cram = CrAM(model, torch.optim.SGD(model.parameters(), lr=1.0))
    before = [each.detach().clone() for each in model.parameters()]
    cram.gradients(closure_of(model, cram))
    nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
    cram.optimizer.step()
    moved = sum(
        float((new.detach() - old).square().sum())
        for new, old in zip(model.parameters(), before, strict=True)
    )
    assert moved**0.5 == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"rho": -1}, "rho is -1, but must be a number of at least 0, such as 0.05"),
        ({"rho": float("nan")}, "rho is nan, but must be"),
        (
            {"sparsities": 0.9},
            r"sparsities is 0.9, but must be a list to draw from, such as \(0.5, 0.7, 0.9\)",
        ),
        ({"sparsities": ()}, r"sparsities is \(\), but must be"),
        ({"seed": -1}, "seed is -1, but must be a whole number of at least 0"),
    ],
)
def test_settings_that_are_not_valid(options: dict[str, Any], text: str) -> None:
    model = small_net()
    with pytest.raises(MethodError, match=f"^{text}"):
        CrAM(model, sgd(model), **options)


def test_options_are_checked_before_training() -> None:
    model = small_net()
    with pytest.raises(BudgetError, match=r"1\.5"):
        CrAM(model, sgd(model), sparsities=(0.5, 1.5))
    with pytest.raises(BudgetError, match="minimum"):
        CrAM(model, sgd(model), sparsities=(0.5, 0.9), min_kept=60)
    with pytest.raises(TypeError, match=r"CrAM.. got an unexpected keyword argument 'minimum'"):
        CrAM(model, sgd(model), minimum=1)  # type: ignore[call-arg]
    with pytest.raises(ScopeError, match=r"CrAM needs an nn.Module"):
        CrAM({}, sgd(model))  # type: ignore[arg-type]
    with pytest.raises(ScopeError, match="trains none of the 5 prunable tensors"):
        CrAM(model, sgd(small_net()))


class Sharp(torch.optim.SGD):
    """SAM as it is published: two halves around an optimiser inside."""

    def __init__(self, parameters: Any, **options: Any) -> None:
        super().__init__(parameters, **options)
        self.base_optimizer = torch.optim.SGD(self.param_groups, **options)
        self.first_step = self.second_step = self.step


@pytest.mark.parametrize("make", [torch.optim.LBFGS, Sharp])
def test_it_refuses_optimisers_that_evaluate_the_loss_themselves(make: Callable[..., Any]) -> None:
    model = small_net()
    with pytest.raises(
        MethodError, match=f"^{make.__name__} evaluates the loss itself, and so does CrAM; give"
    ):
        CrAM(model, make(model.parameters(), lr=0.1))


def test_it_refuses_optimisers_that_maximise_and_several() -> None:
    model = small_net()
    with pytest.raises(MethodError, match=r"^SGD maximises, but CrAM minimises the loss"):
        CrAM(model, sgd(model, maximize=True))
    with pytest.raises(MethodError, match=r"^optimizer is a list of 2, but CrAM steps one"):
        CrAM(model, [sgd(model), sgd(model)])  # type: ignore[arg-type]


def test_it_refuses_an_optimiser_with_a_pruner() -> None:
    model = small_net()
    optimizer = sgd(model)
    pruner = Pruner(model, optimizer, schedule=OneShot(0.5))
    with pytest.raises(MethodError, match=r"^a Pruner follows this optimizer"):
        CrAM(model, optimizer)
    pruner.detach()
    cram = CrAM(model, optimizer)
    Pruner(model, optimizer, schedule=OneShot(0.5))
    with pytest.raises(MethodError, match=r"^a Pruner follows this optimizer"):
        cram.step(closure_of(model, cram))


def test_it_refuses_closures_that_are_none_or_leave_no_gradients() -> None:
    model = small_net()
    cram = CrAM(model, sgd(model))
    with pytest.raises(MethodError, match=r"so step needs a closure that computes it and calls backward"):
        cram.step(None)  # type: ignore[arg-type]
    with pytest.raises(MethodError, match=r"^the closure left no gradients; it must call backward"):
        cram.step(lambda: loss_at(model, 0))
    assert cram.step_count == 0


def test_gradients_that_are_not_finite_leave_the_weights_as_they_were() -> None:
    model = small_net()
    cram = CrAM(model, sgd(model))
    before = copy.deepcopy(model.state_dict())

    def closure() -> None:
        (loss_at(model, 0) * float("inf")).backward()

    with pytest.raises(MethodError, match=r"^the weights plus rho = 0\.05 times .* at step 0 .*; lower"):
        cram.step(closure)
    weights = {name for name, _ in model.named_parameters()}
    assert all(
        torch.equal(value, before[name]) for name, value in model.state_dict().items() if name in weights
    )


def test_a_closure_that_fails_at_the_pruned_weights_leaves_nothing_behind() -> None:
    model, plain = small_net(), small_net()
    cram = CrAM(model, sgd(model))
    calls = []

    def closure() -> None:
        loss_at(model, 0).backward()
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        cram.step(closure)
    loss_at(plain, 0)
    assert all(torch.equal(value, plain.state_dict()[name]) for name, value in model.state_dict().items())
    assert cram.step_count == 0


def test_a_layer_that_is_left_with_nothing_is_told_once() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    with torch.no_grad():
        model[0].weight.mul_(1e-4)
    cram = CrAM(model, torch.optim.SGD(model.parameters(), lr=1e-6), sparsities=(0.6,))
    closure = lambda: model(torch.ones(1, 8)).sum().backward()  # noqa: E731
    with pytest.warns(GpmtWarning, match=r"0\.weight"):
        cram.step(closure)
    cram.step(closure)


def test_it_is_public() -> None:
    assert gpmt.CrAM is CrAM
    assert issubclass(MethodError, GpmtError)
