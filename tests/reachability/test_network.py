import warnings

import pytest
import torch
from torch import Tensor, nn

from gpmt.core.scope.scope import find_scope
from gpmt.errors import GpmtError
from gpmt.reachability.network import Links, find_links, record_network
from tests.reachability.networks import GENERAL, LINEAR, shape_of
from tests.reachability.oracle import active_by_change, active_by_paths


def random_masks(model: nn.Module, density: float) -> dict[str, Tensor]:
    return {name: torch.rand(tensor.shape) < density for name, tensor in find_scope(model).tensors.items()}


def links(model: nn.Module, shape: tuple[int, ...], kept: dict[str, Tensor]) -> Links:
    recording = record_network(model, torch.zeros(1, *shape))
    return find_links(model, recording, find_scope(model).tensors, kept)


def check(found: Links, expected: dict[str, Tensor]) -> None:
    assert found.conservative == ()
    for name, mask in expected.items():
        assert torch.equal(found.active[name], mask), name


@pytest.mark.parametrize("name", LINEAR)
def test_linear_networks_against_sums_over_paths(name: str) -> None:
    torch.manual_seed(0)
    model = LINEAR[name]()
    shape = shape_of(name)
    for density in (1.0, 0.5, 0.3, 0.2, 0.0):
        kept = random_masks(model, density)
        check(links(model, shape, kept), active_by_paths(model, shape, kept))


@pytest.mark.parametrize("name", GENERAL)
def test_networks_against_what_changes(name: str) -> None:
    torch.manual_seed(0)
    make, shape = GENERAL[name]
    model = make()
    for density in (1.0, 0.45, 0.3):
        kept = random_masks(model, density)
        check(links(model, shape, kept), active_by_change(model, shape, kept))


class Sorted(nn.Module):
    """An operator without a rule between two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.fft.rfft(self.first(x), n=6, dim=-1).real)


def test_operators_without_a_rule_link_all_and_are_named() -> None:
    torch.manual_seed(0)
    model = Sorted()
    kept = {
        "first.weight": torch.eye(4, dtype=torch.bool),
        "last.weight": torch.zeros(2, 4, dtype=torch.bool),
    }
    kept["last.weight"][0, 0] = True
    found = links(model, (4,), kept)
    assert "fft_rfft" in "".join(found.conservative)
    assert torch.equal(found.active["first.weight"], kept["first.weight"])
    assert torch.equal(found.active["last.weight"], kept["last.weight"])


def test_weights_in_operators_without_a_rule_count_if_anything_reaches_them() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3, 4))

        def forward(self, x: Tensor) -> Tensor:
            return torch.cdist(x, self.weight)

    model = Own()
    recording = record_network(model, torch.zeros(1, 4))
    kept = {"weight": torch.rand(3, 4) < 0.5}
    found = find_links(model, recording, {"weight": model.weight}, kept)
    assert found.conservative == ("cdist",)
    assert torch.equal(found.active["weight"], kept["weight"])


def test_writes_in_place_are_followed() -> None:
    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.last = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            y = torch.zeros(1, 4)
            y[:, :2] = self.first(x)[:, :2]
            y.relu_().add_(self.second(x))
            return self.last(y)

    model = InPlace()
    kept = {name: torch.ones(t.shape, dtype=torch.bool) for name, t in find_scope(model).tensors.items()}
    kept["last.weight"][:, 3] = False
    found = links(model, (4,), kept)
    assert found.conservative == ()
    assert found.active["first.weight"].any(1).tolist() == [True, True, False, False]
    assert found.active["second.weight"].any(1).tolist() == [True, True, True, False]


def test_a_network_that_cannot_be_functional_is_recorded_with_its_writes() -> None:
    class Looks(nn.Module):
        """Refuses to be traced."""

        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            assert type(x) is not Tensor  # within torch.func.functionalize
            y = self.first(x)
            y.relu_().mul_(2)
            return self.last(y)

    model = Looks()
    kept = {name: torch.ones(t.shape, dtype=torch.bool) for name, t in find_scope(model).tensors.items()}
    kept["last.weight"][:, 3] = False
    found = links(model, (4,), kept)
    assert found.active["first.weight"].any(1).tolist() == [True, True, True, False]


@pytest.mark.slow
def test_deep_networks_without_norms_or_biases() -> None:
    model = nn.Sequential(*(nn.Linear(2, 2, bias=False) for _ in range(1200)), nn.GLU(), nn.Linear(1, 1))
    kept = {name: torch.ones(t.shape, dtype=torch.bool) for name, t in find_scope(model).tensors.items()}
    found = links(model, (2,), kept)
    assert found.conservative == ()
    assert all(mask.all() for mask in found.active.values())


def test_what_cannot_be_recorded_is_told_with_its_line() -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x) if x.sum() > 0 else self.fc(-x)

    with pytest.raises(
        GpmtError, match=r"^Branches cannot be followed from its input to its output .*, line \d+\)"
    ):
        record_network(Branches(), torch.zeros(1, 4))
    with pytest.raises(GpmtError, match=r"Linear cannot be followed .*a and b must have same reduction dim"):
        record_network(nn.Linear(4, 2), torch.zeros(1, 5))
    with pytest.raises(GpmtError, match="input 0 of the example is not a dense tensor"):
        record_network(nn.Linear(4, 2), [3])  # type: ignore[list-item]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        script = torch.jit.script(nn.Linear(4, 2))
    with pytest.raises(GpmtError, match="the network is a TorchScript program, which hides its forward"):
        record_network(script, torch.zeros(1, 4))


def test_examples_of_another_device_or_type_will_do() -> None:
    model = nn.Linear(4, 2).to("meta", torch.bfloat16)
    recording = record_network(model, torch.zeros(1, 4))
    found = find_links(
        model, recording, {"weight": model.weight}, {"weight": torch.ones(2, 4, dtype=torch.bool)}
    )
    assert found.active["weight"].all()
