"""Which steps a graph becomes."""

import pytest
from tests.runtime.lowering.lowered import labels, pixel
from tests.runtime.networks import noise
from torch import nn

from gpmt.runtime.codegen import processor
from gpmt.runtime.frontend.capture import capture
from gpmt.runtime.lowering.lower import lower
from gpmt.runtime.passes.pipeline import optimize


class Two(nn.Sequential):
    """The sum of two networks."""

    def forward(self, x):
        return self[0](x) + self[1](x)


IMAGE = noise(2, 4, 9, 8)


@pytest.mark.parametrize(
    ("network", "image", "expected"),
    [
        (nn.Conv2d(4, 3, 3, padding=1), IMAGE, ["import", "conv 3×3", "export"]),
        # The phases are split while the tensor is read.
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


def test_lowering_leaves_the_graph_as_it_is():
    graph = optimize(capture(nn.Sequential(nn.Conv2d(4, 6, (9, 8)), nn.Linear(1, 2)).eval(), IMAGE).graph)
    values, operators = dict(graph.values), list(graph.operators)
    lower(graph, processor.host(), 1)
    assert graph.values == values
    assert graph.operators == operators
