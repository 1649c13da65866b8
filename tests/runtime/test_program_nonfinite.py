"""NaN and infinity: in the same places as in eager, as far as a program multiplies by the weights that eager has."""

import pytest
import torch
from tests.runtime.networks import mixed, noise, small
from tests.runtime.programs import SHAPE, close, compiled
from torch import nn

INF, NAN = float("inf"), float("nan")


@torch.no_grad()
@pytest.mark.parametrize("number", [NAN, INF, -INF])
@pytest.mark.parametrize("make", [small, lambda: small(groups=1, bias=False), mixed])
def test_nan_and_infinity_stay_in_their_places(make, number):
    network = make()
    convolution = network[0]
    images = noise(*SHAPE)
    images[1, 2, 3, 4] = number
    body = nn.Sequential(convolution)
    found, expected = compiled(body)(images), body(images)
    assert torch.equal(found.isnan(), expected.isnan())
    assert torch.equal(found.isinf(), expected.isinf())
    ordinary = expected.isfinite()
    close(found[ordinary], expected[ordinary])
    # The whole network: neither the other image nor the next call is affected.
    program = compiled(network)
    result = program(images)
    close(result[:1], network(images)[:1])
    close(program(noise(*SHAPE)), network(noise(*SHAPE)))


@torch.no_grad()
@pytest.mark.parametrize("number", [NAN, INF])
def test_pruned_weights_do_not_see_infinity(number):
    """PyTorch multiplies by the zeros, and 0 · inf is NaN. A program does not compute such products."""
    network = nn.Sequential(nn.Conv2d(2, 16, 1, bias=False))
    network[0].weight.zero_()
    network[0].weight[::2, 0] = 1.0
    images = torch.ones(1, 2, 16, 16)
    images[0, 1, 3, 3] = number
    assert network(images)[0, :, 3, 3].isnan().all()
    result = compiled(network, images)(images)
    assert result[0, 0, 0, 0] == 1
    assert torch.isin(result[0, :, 3, 3].nan_to_num(-1.0), torch.tensor([-1.0, 0.0, 1.0])).all()
    others = torch.ones(16, 16, dtype=torch.bool)
    others[3, 3] = False
    assert torch.equal(result[0, :, others], network(images)[0, :, others])


@torch.no_grad()
@pytest.mark.parametrize(
    "activation", [nn.ReLU(), nn.ReLU6(), nn.Hardtanh(), nn.SiLU(), nn.Sigmoid(), nn.Hardswish()]
)
def test_activations_of_nan_and_infinity(activation):
    network = nn.Sequential(nn.Conv2d(1, 1, 1), activation)
    network[0].weight.fill_(1)
    network[0].bias.fill_(0)
    images = torch.tensor([NAN, INF, -INF, 0.0, -0.0, 1e38, -1e38, -1e3, 1e-40]).view(1, 1, 3, 3)
    found, expected = compiled(network, images)(images), network(images)
    assert torch.equal(found.isnan(), expected.isnan())
    close(found.nan_to_num(), expected.nan_to_num())


@torch.no_grad()
@pytest.mark.parametrize("pool", [nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(3, 2, 1), nn.AdaptiveAvgPool2d(1)])
@pytest.mark.parametrize("number", [NAN, INF, -INF])
def test_pooling_of_nan_and_infinity(pool, number):
    network = nn.Sequential(pool)
    images = noise(2, 3, 8, 9)
    images[1, 2, 3, 4] = number
    images[0, 0] = -INF
    found, expected = compiled(network)(images), network(images)
    assert torch.equal(found.isnan(), expected.isnan())
    close(found.nan_to_num(), expected.nan_to_num())
