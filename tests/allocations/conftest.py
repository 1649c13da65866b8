import pytest
import torch
from torch import Tensor

SHAPES = {
    "stem": (8, 3, 3, 3),
    "depthwise": (16, 1, 3, 3),
    "body": (64, 40),
    "wide": (20, 300),
    "head": (10, 12),
}


def weights(seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        f"{name}.weight": torch.randn(shape, generator=generator) * (i + 1)
        for i, (name, shape) in enumerate(SHAPES.items())
    }


@pytest.fixture(scope="session")
def network() -> dict[str, Tensor]:
    """The weights of five layers, from 120 to 6,000, each layer's larger than those before."""
    return weights(0)


@pytest.fixture(scope="session")
def other_network() -> dict[str, Tensor]:
    """Other weights of the same shapes."""
    return weights(9)
