"""What no output depends on is removed."""

import pytest
import torch
from tests.runtime.networks import Lambda, kinds, noise
from tests.runtime.passes.patterns import IMAGE, check_pattern
from torch import nn

from gpmt.runtime.frontend.capture import capture
from gpmt.runtime.passes.pipeline import optimize


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda s, x: (s.one(x), s.two(x))[0], {"Conv": 1}),
    ],
)
def test_patterns(function, expected):
    check_pattern(function, expected)


def test_dead_operators_and_values_go():
    torch.manual_seed(0)
    network = Lambda(
        lambda s, x: (s.one(x), s.two(x.sin()).relu(), s.c.sum() + x.sum())[0],
        one=nn.Conv2d(4, 4, 1),
        two=nn.Conv2d(4, 4, 1),
        c=noise(3),
    )
    graph = optimize(capture(network, IMAGE).graph)
    assert kinds(graph) == {"Conv": 1}
    assert graph.values.keys() == {"inputs_0", graph.outputs[0]}
    assert not graph.constants
