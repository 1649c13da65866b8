"""Which steps an operator becomes, and in which layouts its values are."""

from dataclasses import replace

import pytest
import torch
from tests.runtime.networks import Lambda, noise, scramble
from torch import nn

import gpmt
from gpmt.runtime.codegen import processor
from gpmt.runtime.frontend.capture import capture
from gpmt.runtime.ir.operators import Linear
from gpmt.runtime.lowering.lower import lower
from gpmt.runtime.passes.fuse import fuse


def labels(network, *inputs):
    """Return what the steps are, after checking that the program is right."""
    torch.manual_seed(0)
    scramble(network)
    program = gpmt.compile(network, inputs, threads=1, tune=False)
    with torch.no_grad():
        results, expected = program(*inputs), network(*inputs)
    if isinstance(results, torch.Tensor):
        results, expected = [results], [expected]
    for result, right in zip(results, expected, strict=True):
        torch.testing.assert_close(result, right, rtol=1e-5, atol=1e-5)
    return [step.label for step in lower(fuse(capture(network, inputs).graph), processor.host(), 1).steps]


class Two(nn.Sequential):
    """The sum of two networks."""

    def forward(self, x):
        return self[0](x) + self[1](x)


def pixel(*parts):
    """Return a network that begins with the mean of every channel."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), *parts)


IMAGE, PIXEL = noise(2, 4, 9, 8), noise(2, 4, 1, 1)


@pytest.mark.parametrize(
    ("network", "image", "expected"),
    [
        (nn.Conv2d(4, 3, 3, padding=1), IMAGE, ["import", "conv 3×3", "export"]),
        # The windows' rows and columns are taken apart while the tensor is read.
        (nn.Conv2d(4, 3, 3, stride=2), IMAGE, ["import", "conv 3×3 /2", "export"]),
        (
            nn.Sequential(nn.Conv2d(4, 3, 3), nn.Conv2d(3, 5, 3, stride=2)),
            IMAGE,
            ["import", "conv 3×3", "phases", "conv 3×3 /2", "export"],
        ),
        # Both convolutions read the same phases.
        (
            nn.Sequential(nn.Conv2d(4, 3, 1), Two(nn.Conv2d(3, 5, 3, 2), nn.Conv2d(3, 5, 3, 2))),
            IMAGE,
            ["import", "conv 1×1", "phases", "conv 3×3 /2", "conv 3×3 /2", "export"],
        ),
        (nn.Conv2d(4, 4, 3, groups=4), IMAGE, ["import", "conv 3×3 depthwise", "export"]),
        (
            nn.Sequential(nn.Conv2d(4, 3, 3), nn.Flatten(), nn.Linear(126, 5)),
            IMAGE,
            ["import", "conv 3×3", "flatten", "linear", "export"],
        ),
        (pixel(nn.Conv2d(4, 5, 1)), IMAGE, ["import", "mean", "conv 1×1", "export"]),
        (pixel(nn.Conv2d(4, 5, 3, padding=1)), IMAGE, ["import", "mean", "conv 3×3", "export"]),
        (pixel(nn.Flatten(), nn.Linear(4, 5)), IMAGE, ["import", "mean", "linear", "export"]),
        (nn.Linear(8, 5), IMAGE, ["import", "linear", "export"]),
        (nn.MaxPool2d(2), IMAGE, ["import", "max pool", "export"]),
        (nn.AvgPool2d(2), IMAGE, ["import", "mean pool", "export"]),
        (nn.Identity(), IMAGE, []),
    ],
)  # fmt: skip
def test_steps(network, image, expected):
    assert labels(network, image) == expected


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


def test_lowering_leaves_the_graph_as_it_is():
    graph = fuse(capture(nn.Sequential(nn.Conv2d(4, 6, (9, 8)), nn.Linear(1, 2)).eval(), IMAGE).graph)
    values, operators = dict(graph.values), list(graph.operators)
    lower(graph, processor.host(), 1)
    assert graph.values == values
    assert graph.operators == operators


def test_vectors_of_pixels_far_apart_are_left_to_the_sparse_kernel():
    steps = labels(nn.Conv2d(4, 4, 1, stride=100, groups=4), noise(1, 4, 3, 101))
    assert steps == ["import", "conv 1×1 /100", "export"]


def test_a_value_without_dimensions():
    labels(Lambda(lambda s, x: s.linear(x).squeeze(), linear=nn.Linear(6, 1)), noise(1, 6))


def test_names_of_values_are_the_networks_own():
    """A file may call a value as a step in between would be called."""
    network = Lambda(
        lambda s, x: (s.linear(x.mean((2, 3), keepdim=True)), s.conv(x)),
        linear=nn.Linear(1, 3),
        conv=nn.Conv2d(4, 2, 3, stride=2),
    ).eval()
    graph = fuse(capture(network, IMAGE).graph)
    (linear,) = (operator for operator in graph.operators if isinstance(operator, Linear))
    (old,), new = graph.inputs, f"{linear.output}:before"
    values = {name: value for name, value in graph.values.items() if name != old}
    values[new] = replace(graph.values[old], name=new)
    operators = [replace(op, input=new) if op.input == old else op for op in graph.operators]
    lowered = lower(replace(graph, values=values, operators=operators, inputs=[new]), processor.host(), 1)
    same = lower(graph, processor.host(), 1)
    assert [step.label for step in lowered.steps] == [step.label for step in same.steps]
    assert [*lowered.planes.values()] == [*same.planes.values()]
