"""A small network with batches in a fixed order, and the check that what is pruned is zero, as fixtures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import pytest
import torch
from tests.threads import one_thread
from torch import nn
from torch.utils.data import TensorDataset

from gpmt.core.schedule.schedule import ACDC, Gradual, OneShot, Schedule
from gpmt.pruner.pruner import Pruner


@dataclass(frozen=True)
class Toy:
    """320 prunable weights; 32 samples, which make 8 batches of 4 an epoch."""

    numel: int = 320

    def net(self) -> nn.Sequential:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(10, 16), nn.Tanh(), nn.Linear(16, 10))

    def data(self) -> TensorDataset:
        generator = torch.Generator().manual_seed(1)
        images = torch.randn(32, 10, generator=generator)
        return TensorDataset(images, torch.randint(10, (32,), generator=generator))

    def pruned(self, sparsity: Fraction) -> int:
        return int(sparsity * self.numel)

    def assert_zero_where_pruned(
        self, pruner: Pruner, model: nn.Module, optimizer: torch.optim.Optimizer
    ) -> None:
        """Check weights and momentum against the masks."""
        assert pruner.masks is not None
        for name, mask in pruner.masks.items():
            weight = model.get_parameter(name)
            moments = [value for value in optimizer.state[weight].values() if value.shape == weight.shape]
            assert moments
            for value in [weight.detach(), *moments]:
                assert not value[~mask].any(), name

    def assert_same(self, one: nn.Module, other: nn.Module) -> None:
        for name, value in one.state_dict().items():
            assert torch.equal(value, other.state_dict()[name]), name


@pytest.fixture
def toy() -> Toy:
    return Toy()


SCHEDULES = [
    OneShot(0.9),
    Gradual(0.9, end=30, interval=4, initial=0.2),
    # Dense in the third epoch, though time 0 is sparse: resuming must not prune what is dense by now.
    ACDC(0.8, start=0, period=4, sparse=2, last_restore=2, end=4, unit="epoch"),
]


@pytest.fixture(params=SCHEDULES, ids=lambda schedule: type(schedule).__name__)
def schedule(request: pytest.FixtureRequest) -> Schedule:
    found: Schedule = request.param
    return found


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Sums in one thread always run in one order."""
    with one_thread():
        yield
