"""Values that operators read in several layouts, and the buffers that hold them."""

import pytest
import torch
from tests.runtime.lowering.lowered import labels, pixel
from tests.runtime.networks import Lambda, noise
from torch import nn

from gpmt.runtime.ir.graph import Graph
from gpmt.runtime.ir.values import Value
from gpmt.runtime.lowering.step_builder import StepBuilder
from gpmt.runtime.lowering.value_layouts import ValueLayouts

IMAGE, PIXEL = noise(2, 4, 9, 8), noise(2, 4, 1, 1)


@pytest.mark.parametrize(
    "network",
    [
        # The last dimension is what a linear layer reads, the channels what a convolution of one pixel reads.
        nn.Sequential(nn.Conv2d(4, 6, 3), nn.Linear(6, 5)),
        nn.Sequential(nn.Conv2d(4, 6, 3), nn.Linear(6, 1), nn.Conv2d(6, 2, 1)),
        nn.Sequential(nn.Conv2d(4, 6, (9, 8)), nn.Linear(1, 1), nn.Conv2d(6, 2, 1)),
        pixel(nn.Linear(1, 3), nn.Conv2d(4, 2, 1), nn.Linear(3, 1)),
        nn.Sequential(nn.AdaptiveAvgPool2d((1, None)), nn.Linear(8, 1), nn.BatchNorm2d(4), nn.ReLU()),
        # Windows of one pixel that lie in the padding.
        pixel(nn.Conv2d(4, 5, 1, padding=(0, 1))),
        pixel(nn.Conv2d(4, 5, 1, padding=2, stride=9)),
        pixel(nn.Conv2d(4, 5, 3, padding=2, dilation=2, stride=3)),
        pixel(nn.Conv2d(4, 8, 1, groups=2), nn.MaxPool2d(3, 1, 1)),
        nn.Sequential(
            nn.Flatten(), nn.Linear(288, 6), nn.Unflatten(1, (6, 1, 1)), nn.Conv2d(6, 6, 3, padding=1, groups=6)
        ),
        Lambda(lambda s, x: (x.mean((2, 3)), x.mean((2, 3), keepdim=True), x.mean((2, 3)).relu())),
        Lambda(lambda s, x: torch.cat([x.mean((2, 3), keepdim=True)] * 3, 1)),
        Lambda(lambda s, x: s.a(x.flatten(1)) + s.b(x.mean((2, 3))), a=nn.Linear(288, 3), b=nn.Linear(4, 3)),
    ],
)  # fmt: skip
def test_values_in_several_layouts(network):
    labels(network, IMAGE)


@pytest.mark.parametrize(
    "network", [nn.Linear(1, 2), nn.Conv2d(4, 3, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1, groups=4)]
)
def test_images_of_one_pixel(network):
    labels(network, PIXEL)


def test_a_value_without_dimensions():
    labels(Lambda(lambda s, x: s.linear(x).squeeze(), linear=nn.Linear(6, 1)), noise(1, 6))


@pytest.fixture
def layouts():
    """Return the layouts of the tensors "image" and "pixel", and the steps that convert them."""
    values = {"image": Value("image", (2, 4, 9, 8)), "pixel": Value("pixel", (2, 4, 1, 1))}
    steps = StepBuilder(Graph(values, [], list(values), []))
    return ValueLayouts(steps, values, 8), steps


def test_a_layout_is_computed_once(layouts):
    values, steps = layouts
    assert values.buffer("image", "images") is None
    buffer = values.as_images("image")
    assert values.as_images("image") == values.as_layout("image", "images") == buffer
    assert values.buffer("image", "images") == buffer
    assert values.as_vectors("image") != buffer
    assert values.as_tensor("image") == "image"
    assert [step.label for step in steps.steps] == ["import", "import"]


def test_values_are_read_as_vectors_where_they_are_only_vectors_already(layouts):
    values, _ = layouts
    assert [values.pointwise_layout(name) for name in ("image", "pixel")] == ["images", "images"]
    values.as_vectors("image")
    values.as_vectors("pixel")
    assert [values.pointwise_layout(name) for name in ("image", "pixel")] == ["vectors", "vectors"]
    values.as_images("image")
    assert [values.pointwise_layout(name) for name in ("image", "pixel")] == ["images", "vectors"]
