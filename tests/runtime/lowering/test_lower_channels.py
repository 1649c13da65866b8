"""Copies of channels: where each part begins, and which kernel copies it."""

import pytest
from tests.runtime.lowering.lowered import labels, lowered, one_step
from tests.runtime.networks import Lambda, noise
from torch import nn

from gpmt.runtime.ir.operators import Concat, Slice, Upsample
from gpmt.runtime.kernels.copy import CopyKernel
from gpmt.runtime.lowering.steps import BufferAddress


def test_each_part_is_copied_behind_the_parts_before_it():
    graph = lowered(
        [Concat(("a", "b", "a", "c"), "y")],
        {"a": (2, 3, 5, 6), "b": (2, 1, 5, 6), "c": (2, 4, 5, 6), "y": (2, 11, 5, 6)},
    )
    copies = [step for step in graph.steps if step.label == "concat"]
    assert [step.arguments["output"] for step in copies] == [
        BufferAddress("y:images", channel) for channel in (0, 3, 4, 7)
    ]
    assert [step.arguments["left"] for step in copies] == [BufferAddress(f"{name}:images") for name in "abac"]
    specs = [step.candidates(graph.planes)[0].spec for step in copies]
    assert [spec.channels for spec in specs] == [3, 1, 3, 4]


@pytest.mark.parametrize("first", [0, 2])
def test_a_slice_is_read_from_its_first_channel(first):
    graph = lowered([Slice("x", "y", first)], {"x": (2, 5, 5, 6), "y": (2, 3, 5, 6)})
    step, candidate = one_step(graph, "slice")
    assert step.arguments == {
        "left": BufferAddress("x:images", first), "output": BufferAddress("y:images"),
    }  # fmt: skip
    assert isinstance(candidate.spec, CopyKernel)
    assert candidate.spec.channels == 3


def test_copied_channels_have_rows_of_one_pitch():
    graph = lowered([Concat(("a", "b"), "y")], {"a": (1, 3, 5, 6), "b": (1, 2, 5, 6), "y": (1, 5, 5, 6)})
    assert len({planes.pitch for planes in graph.planes.values()}) == 1


def test_upsampling_repeats_rows_and_columns():
    graph = lowered([Upsample("x", "y", (4, 2))], {"x": (2, 3, 5, 6), "y": (2, 3, 20, 12)})
    _, candidate = one_step(graph, "upsample")
    assert candidate.spec.factor == (4, 2)
    assert (candidate.spec.output.height, candidate.spec.output.width) == (20, 12)


def test_channels_of_a_network():
    network = Lambda(
        lambda s, x: nn.functional.interpolate(s.conv(x)[:, 1:3], scale_factor=2.0), conv=nn.Conv2d(4, 5, 1)
    )
    assert labels(network, noise(2, 4, 5, 6)) == ["import", "conv 1×1", "slice", "upsample", "export"]
