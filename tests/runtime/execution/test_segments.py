"""Segments: the addresses and strides of tensors are written to the arguments of kernels, for one call or a batch."""

import numpy as np
import pytest
import torch
from tests.runtime.networks import noise

from gpmt.runtime.execution.segments import Segment
from gpmt.runtime.lowering.steps import InputStride, InputTensor, OutputTensor


@pytest.fixture
def segment():
    """Return a segment that reads x as it is and contiguous, writes y, and reads y again."""
    segment = Segment(np.zeros((2, 6), np.int64))
    segment.inputs = [
        (0, InputTensor("x")),
        (1, InputStride("x", 1)),
        (3, InputTensor("z", contiguous=True)),
        (5, InputTensor("y")),
    ]
    segment.outputs = [(4, OutputTensor("y"))]
    return segment


def test_arguments_are_addresses_and_strides_in_bytes(segment):
    values = {"x": noise(3, 2).t(), "z": noise(3, 2).t()}
    rows = values["z"].clone()
    segment.bind(values, {"y": (2, 5)})
    assert values["y"].shape == (2, 5)
    assert values["z"].is_contiguous()
    assert torch.equal(values["z"], rows)
    x, y, z = (values[name].data_ptr() for name in "xyz")
    assert segment.arguments.tolist() == [[x, 4 * 2, 0, z, y, y], [0] * 6]
    assert segment.values == ["x", "x", "z", "y", "y"]


def test_a_batch_has_an_address_and_a_step_for_each_tensor(segment):
    inputs = {"x": noise(3, 8, 2).transpose(0, 1), "z": noise(3, 2).t()}
    outputs = {"y": torch.empty(8, 5)}
    updates = np.zeros((segment.address_count, 4), np.int64)
    segment.bind_batch(inputs, outputs, updates)
    first = segment.arguments.ctypes.data
    x, z, y = inputs["x"].data_ptr(), inputs["z"].data_ptr(), outputs["y"].data_ptr()
    assert inputs["z"].is_contiguous()
    assert segment.arguments[:, 1].tolist() == [4 * 16] * 2
    assert updates.tolist() == [
        [first, 48, x, 4 * 2],
        [first + 24, 48, z, 4 * 3],
        [first + 40, 48, y, 4 * 5],
        [first + 32, 48, y, 4 * 5],
    ]
