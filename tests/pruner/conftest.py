"""A small network, its training, and the check that what is pruned stays zero, as fixtures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from tests.threads import one_thread
from torch import Tensor, nn
from torch.nn import functional as F

from gpmt.core.schedule.schedule import Schedule
from gpmt.pruner.pruner import Pruner


class SmallNet(nn.Module):
    """Convolution, depthwise convolution, norms, linear: 1,400 prunable weights."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
        self.pointwise = nn.Conv2d(8, 32, 1, bias=False)
        self.head = nn.Linear(32, 10)
        self.scale = nn.Linear(10, 68, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        features = torch.tanh(self.norm(self.stem(images)))
        features = torch.tanh(self.pointwise(self.depthwise(features)))
        return self.scale(self.head(features.mean((2, 3))))


NUMEL = 72 + 72 + 256 + 320 + 680


def small_net(seed: int = 0) -> SmallNet:
    torch.manual_seed(seed)
    model = SmallNet()
    for module in model.children():
        if not isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, std=0.3)  # so that every layer keeps weights, and gradients flow
    return model


def loss_at(model: nn.Module, step: int) -> Tensor:
    """Return the loss on the batch that belongs to a step, whatever was drawn before."""
    generator = torch.Generator().manual_seed(1000 + step)
    images = torch.randn(8, 1, 6, 6, generator=generator)
    labels = torch.randint(68, (8,), generator=generator)
    weight = next(model.parameters())
    return F.cross_entropy(model(images.to(weight)), labels.to(weight.device))


def sgd(model: nn.Module, **options: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-2, **options)


def nesterov(model: nn.Module, **options: Any) -> torch.optim.Optimizer:
    return sgd(model, nesterov=True, **options)


def adam(model: nn.Module, **options: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=1e-2, **options)


def amsgrad(model: nn.Module, **options: Any) -> torch.optim.Optimizer:
    return adam(model, amsgrad=True, **options)


def adamw(model: nn.Module, **options: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=1e-1, **options)


OPTIMIZERS = [sgd, nesterov, adam, amsgrad, adamw]


@dataclass
class Run:
    """A training under way."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    pruner: Pruner

    def step(self) -> None:
        """Do the step that is next on the pruner's clock."""
        self.optimizer.zero_grad()
        loss_at(self.model, self.pruner.step_count).backward()
        self.optimizer.step()

    def steps(self, count: int) -> Run:
        for _ in range(count):
            self.step()
        return self

    def tensors(self) -> dict[str, Tensor]:
        """Return every tensor that decides how the run goes on."""
        found = dict(self.model.state_dict())
        for index, state in self.optimizer.state_dict()["state"].items():
            found |= {f"{index}.{key}": value for key, value in state.items() if value is not None}
        return {name: value.detach().clone() for name, value in found.items()}

    def assert_zero_where_pruned(self) -> int:
        """Check weights and optimiser state against the masks; return how many tensors were checked."""
        assert self.pruner.masks is not None
        checked = 0
        for name, mask in self.pruner.masks.items():
            weight = self.model.get_parameter(name)
            [optimizer] = self.pruner._optimizers
            state = optimizer.state.get(weight, {}).values()
            for value in [weight, *(v for v in state if v is not None and v.shape == weight.shape)]:
                pruned = value.detach()[~mask]
                assert torch.equal(pruned, torch.zeros_like(pruned)), name
                assert not pruned.signbit().any(), name
                checked += 1
        return checked

    def zeros(self) -> int:
        weights = [p for name, p in self.model.named_parameters() if p.ndim >= 2 and name.endswith("weight")]
        return sum(int((weight == 0).sum()) for weight in weights)


@dataclass(frozen=True)
class Toy:
    """What the tests need, in one place."""

    numel: int = NUMEL
    model: Callable[..., SmallNet] = small_net
    loss_at: Callable[[nn.Module, int], Tensor] = loss_at
    run: type[Run] = Run

    def start(
        self,
        schedule: Schedule | None,
        *,
        weights: int = 0,
        make: Callable[..., torch.optim.Optimizer] = sgd,
        model: nn.Module | None = None,
        **options: Any,
    ) -> Run:
        model = small_net(weights) if model is None else model
        optimizer = make(model)
        return Run(model, optimizer, Pruner(model, optimizer, schedule=schedule, **options))

    def assert_same(self, one: Run, other: Run) -> None:
        """Check that two runs are equal bit for bit: weights, buffers, optimiser state, masks, time."""
        left, right = one.tensors(), other.tensors()
        assert left.keys() == right.keys()
        for name, value in left.items():
            assert torch.equal(value, right[name]), name
        assert one.pruner.step_count == other.pruner.step_count
        assert one.pruner.masks == other.pruner.masks


@pytest.fixture
def toy() -> Toy:
    return Toy()


@pytest.fixture(params=OPTIMIZERS, ids=lambda make: make.__name__)
def make(request: pytest.FixtureRequest) -> Callable[..., torch.optim.Optimizer]:
    found: Callable[..., torch.optim.Optimizer] = request.param
    return found


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Tensors this small gain nothing from threads, and sums in one thread always run in one order."""
    with one_thread():
        yield
