"""Scale and shift, sums and products against PyTorch in double precision."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.runtime.kernels.guarded import Buffer, copied, run

from gpmt.runtime.ir.activation import IDENTITY, RELU, Activation
from gpmt.runtime.kernels.pointwise import AddKernel, AffineKernel, CopyKernel, GateKernel, MultiplyKernel
from gpmt.runtime.layout.planes import Planes

FUNCTIONS = {
    IDENTITY: lambda x: x,
    RELU: F.relu,
    Activation("clamp", 0.5, 1.0): lambda x: x.clamp(0.5, 1.0),
    Activation("silu"): F.silu,
    Activation("hardswish"): F.hardswish,
    Activation("sigmoid"): torch.sigmoid,
}
few = settings(max_examples=12, deadline=None)
common = (
    st.sampled_from([4, 8, 16]), st.sampled_from(["start", "end"]), st.sampled_from([*FUNCTIONS]), st.integers(1, 3),
    st.integers(1, 5), st.integers(1, 40), st.integers(1, 40), st.integers(0, 9),
)  # fmt: skip


def layouts(images, channels, height, width, pads):
    return [Planes(images, channels, height, width, width + pads, 30 * i) for i in range(3)]


def numbers(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def mask(layout, side):
    return copied(layout.mask(), side)


def arguments(spec, left, right, result, side="end"):
    constants = {"mask": mask(spec.output, side), "numbers": copied(spec.numbers(), side)}
    return {"left": left, "right": right, "output": result, "scale": 0, "shift": 0, **constants}


@few
@given(*common)
def test_affine(lanes, side, activation, images, channels, height, width, pads):
    source, output, _ = layouts(images, channels, height, width, pads)
    values, scale, shift = (
        numbers(1, images, channels, height, width),
        numbers(2, channels),
        numbers(3, channels),
    )
    exact = torch.from_numpy(values.astype(np.float64) * scale[:, None, None] + shift[:, None, None])
    result = Buffer(output, at=side)
    spec = AffineKernel(lanes, source, source, output, activation)
    args = {
        "left": Buffer(source, values, side),
        "right": 0,
        "output": result,
        "scale": copied(scale, side),
        "shift": copied(shift, side),
        "mask": mask(output, side),
        "numbers": copied(spec.numbers(), side),
    }
    run(spec, args, reversed(range(spec.items)))
    result.check(FUNCTIONS[activation](exact).float().numpy())


@pytest.mark.parametrize(("kernel", "function"), [(AddKernel, np.add), (MultiplyKernel, np.multiply)])
@few
@given(*common)
def test_of_two_images(kernel, function, lanes, side, activation, images, channels, height, width, pads):
    left, right, output = layouts(images, channels, height, width, pads)
    one, other = (numbers(seed, images, channels, height, width) for seed in (1, 2))
    exact = torch.from_numpy(function(one.astype(np.float64), other))
    result = Buffer(output, at=side)
    spec = kernel(lanes, left, right, output, activation)
    run(spec, arguments(spec, Buffer(left, one, side), Buffer(right, other, side), result, side))
    result.check(FUNCTIONS[activation](exact).float().numpy())


@few
@given(*common, st.booleans())
def test_gate(lanes, side, activation, images, channels, height, width, pads, vectors):
    """A factor for each channel of each image, which are images of one pixel or vectors."""
    source, output, _ = layouts(images, channels, height, width, pads)
    values, factors = numbers(1, images, channels, height, width), numbers(2, images, channels, 1, 1)
    exact = torch.from_numpy(values.astype(np.float64) * factors)
    if vectors:
        factors = np.ascontiguousarray(factors.transpose(2, 1, 3, 0))
    gates = Planes(*factors.shape, factors.shape[3] + pads, 0)
    result = Buffer(output, at=side)
    spec = GateKernel(lanes, source, gates, output, activation)
    right = Buffer(gates, factors, side)
    run(spec, arguments(spec, Buffer(source, values, side), right, result, side), reversed(range(spec.items)))
    result.check(FUNCTIONS[activation](exact).float().numpy())


@few
@given(*common, st.integers(0, 2), st.integers(0, 2))
def test_copy_to_a_range_of_channels(
    lanes, side, activation, images, channels, height, width, pads, before, behind
):
    source, *_ = layouts(images, channels, height, width, pads)
    layout = Planes(images, before + channels + behind, height, width, width + pads, 17)
    values, output = numbers(2, images, channels, height, width), Buffer(layout, at=side)
    spec = CopyKernel(lanes, source, source, layout)
    args = {"left": Buffer(source, values, side), "output": output.channel(before)}
    unused = dict.fromkeys(("right", "scale", "shift", "mask"), 0)
    run(spec, {**args, **unused, "numbers": copied(spec.numbers(), side)})
    output.check(values, slice(before, before + channels), tolerance=0)


@few
@given(*common, st.integers(0, 2), st.integers(0, 2))
def test_copy_of_a_range_of_channels(
    lanes, side, activation, images, channels, height, width, pads, before, behind
):
    layout = Planes(images, before + channels + behind, height, width, width + pads, 17)
    output, *_ = layouts(images, channels, height, width, pads)
    values, result = numbers(2, images, layout.channels, height, width), Buffer(output, at=side)
    spec = CopyKernel(lanes, layout, layout, output)
    source = Buffer(layout, values, side)
    args = {"left": source.channel(before), "output": result}
    unused = dict.fromkeys(("right", "scale", "shift", "mask"), 0)
    run(spec, {**args, **unused, "numbers": copied(spec.numbers(), side)}, reversed(range(spec.items)))
    result.check(values[:, before : before + channels], tolerance=0)


def test_large_planes_are_cut():
    layout = Planes(1, 2, 250, 250, 251, 0)
    spec = AddKernel(8, layout, layout, layout)
    assert spec.items > 4
    values = numbers(0, 1, 2, 250, 250)
    result, same = Buffer(layout), Buffer(layout, values)
    run(spec, arguments(spec, same, same, result), reversed(range(spec.items)))
    result.check(2 * values, tolerance=0)
