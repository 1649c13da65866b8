import math
import time

import numpy as np
import pytest
import torch
from torch import nn

from gpmt.cli.engines import call_engine, difference, eager_call, measure, random_inputs


def test_engines_take_turns():
    calls = []

    def engine(name, seconds):
        def call():
            calls.append(name)
            time.sleep(seconds)

        return call

    timings, rounds = measure({"a": engine("a", 0.002), "b": engine("b", 0.02)}, 0.2)
    assert rounds >= 3
    assert timings["a"].ratio == 1
    assert timings["b"].seconds >= 0.02
    assert timings["b"].ratio > 2
    order = [name for i, name in enumerate(calls) if i == 0 or calls[i - 1] != name]
    assert {"a", "b"} == {*order}
    assert len(order) >= rounds


def test_differences_are_relative():
    one = {"a": torch.tensor([1.0, -4.0]), "b": [torch.zeros(3), "text"]}
    other = {"a": torch.tensor([1.0, -3.0]), "b": [torch.full((3,), 0.1), "text"]}
    assert difference(one, one) == 0
    assert math.isclose(difference(one, other), 1.0)  # 0.1 of 0.1
    assert math.isclose(difference(one["a"], other["a"]), 1 / 3)


def test_inputs_are_random_where_they_may_be():
    (images,) = random_inputs(torch.zeros(1, 3, 4, 4), 5)
    assert images.shape == (5, 3, 4, 4)
    assert images.std() > 0.5
    ids = random_inputs({"ids": torch.ones(1, 7, dtype=torch.int64)})["ids"]
    assert (ids.shape, ids.dtype, int(ids.max())) == ((1, 7), torch.int64, 0)


def test_outputs_of_other_libraries_are_compared_too():
    assert difference([np.array([1.0, 2.0], np.float32)], torch.tensor([1.0, 1.0])) == 1
    assert difference(torch.zeros(0), np.zeros(0)) == 0
    with pytest.raises(ValueError, match="longer"):
        difference([torch.ones(1)], [torch.ones(1), torch.ones(1)])


class Scaled(nn.Module):
    """A convolution of images, times a scale; a dropout shows the mode."""

    def __init__(self):
        super().__init__()
        self.convolution, self.dropout = nn.Conv2d(3, 2, 3), nn.Dropout()

    def forward(self, images, scale):
        return self.dropout(self.convolution(images)) * scale


INPUTS = {"scale": torch.full((2, 1, 1, 1), 3.0), "images": torch.ones(2, 3, 5, 5)}
POSITIONAL = (INPUTS["images"], INPUTS["scale"])


@pytest.mark.parametrize("inputs", [INPUTS, POSITIONAL], ids=["named", "positional"])
def test_engines_take_named_and_positional_inputs(inputs):
    network = Scaled()
    expected = network.eval()(*POSITIONAL)
    assert torch.equal(call_engine(network, inputs), expected)
    network.train()
    output = eager_call(network, inputs)()
    assert output.is_inference()
    torch.testing.assert_close(output, expected)
