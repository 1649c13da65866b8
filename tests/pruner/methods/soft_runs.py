"""A small network that trains with soft masks, and the checks of its zeros."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import gpmt
from gpmt.core.schedule.schedule import Gradual, Schedule

METHODS: list[gpmt.Method] = [
    gpmt.Feather(),
    gpmt.Feather(theta=0.5, power=2),
    gpmt.ST3(),
    gpmt.ST3(rescale=False),
    gpmt.ST3(flat=True),
]


class Net(nn.Module):
    """Convolution, norm and linear: 72 + 320 prunable weights."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.conv = nn.Conv2d(1, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(32, 10)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.head(torch.tanh(self.norm(self.conv(images))).flatten(1))
        return features


NUMEL = 392


def loss_at(model: nn.Module, step: int) -> Tensor:
    generator = torch.Generator().manual_seed(step)
    images = torch.randn(6, 1, 4, 4, generator=generator)
    return F.cross_entropy(model(images), torch.randint(10, (6,), generator=generator))


class Run:
    """A training under way."""

    def __init__(
        self,
        method: gpmt.Method | str = "feather",
        schedule: Schedule | None = None,
        *,
        model: nn.Module | None = None,
        make: Callable[..., torch.optim.Optimizer] = torch.optim.SGD,
        **options: Any,
    ) -> None:
        self.model = Net() if model is None else model
        given = {"momentum": 0.9} if make is torch.optim.SGD else {}
        self.optimizer = make(self.model.parameters(), lr=0.05, weight_decay=1e-2, **given)
        schedule = Gradual(0.9, end=4) if schedule is None else schedule
        self.pruner = gpmt.Pruner(self.model, self.optimizer, schedule=schedule, method=method, **options)
        self.done = 0

    def steps(self, count: int = 1) -> Run:
        for _ in range(count):
            self.optimizer.zero_grad()
            loss_at(self.model, self.done).backward()
            self.optimizer.step()
            self.done += 1
        return self

    def dense(self) -> dict[str, Tensor]:
        found: dict[str, Tensor] = self.pruner.state_dict()["method"].get("dense", {})
        return found

    def tensors(self) -> dict[str, Tensor]:
        found = {**self.model.state_dict(), **{f"dense.{n}": value for n, value in self.dense().items()}}
        for index, state in self.optimizer.state_dict()["state"].items():
            found |= {f"{index}.{key}": value for key, value in state.items() if value is not None}
        return {name: value.detach().clone() for name, value in found.items()}

    def assert_exact(self, pruned: int) -> None:
        """Check that the masks are those of the dense weights, and the zeros of the model are theirs."""
        masks = self.pruner.masks
        assert masks is not None
        assert masks.total_pruned == pruned
        for name, mask in masks.items():
            weight = self.model.get_parameter(name).detach()
            assert torch.equal(weight != 0, mask), name
            assert not weight[~mask].signbit().any()
            assert torch.equal(weight.sign()[mask], self.dense()[name].sign()[mask])


def assert_same(one: Run, other: Run) -> None:
    left, right = one.tensors(), other.tensors()
    assert left.keys() == right.keys()
    for name, value in left.items():
        assert torch.equal(value, right[name]), name
    assert one.pruner.masks == other.pruner.masks
    assert one.pruner.step_count == other.pruner.step_count
