import pytest
import torch
from tests.reachability.networks import GENERAL, LINEAR
from tests.reachability.oracle import active_by_change, active_by_paths
from torch import Tensor, nn

from gpmt.core.scope import find_scope
from gpmt.reachability.network import Links, find_links, record_network


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
    shape = (4,) if name == "linear" else (2, 4, 4)
    for density in (1.0, 0.5, 0.5, 0.3, 0.3, 0.2, 0.1, 0.0):
        kept = random_masks(model, density)
        check(links(model, shape, kept), active_by_paths(model, shape, kept))


@pytest.mark.parametrize("name", GENERAL)
def test_networks_against_what_changes(name: str) -> None:
    torch.manual_seed(0)
    make, shape = GENERAL[name]
    model = make()
    for density in (1.0, 0.5, 0.4, 0.3, 0.2):
        kept = random_masks(model, density)
        check(links(model, shape, kept), active_by_change(model, shape, kept))
