"""Scale and shift, and addition, against PyTorch in double precision."""

import numpy as np
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.runtime.kernels.guarded import Buffer, copied, run

from gpmt.runtime.graph import IDENTITY, RELU, Activation
from gpmt.runtime.kernels.pointwise import Add, Affine, Copy
from gpmt.runtime.layout import Planes

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
    return copied(layout.mask(-(-layout.cover // 16) * 16), side)


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
    spec = Affine(lanes, source, source, output, activation)
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


@few
@given(*common)
def test_add(lanes, side, activation, images, channels, height, width, pads):
    left, right, output = layouts(images, channels, height, width, pads)
    one, other = (numbers(seed, images, channels, height, width) for seed in (1, 2))
    exact = torch.from_numpy(one.astype(np.float64) + other)
    result = Buffer(output, at=side)
    spec = Add(lanes, left, right, output, activation)
    args = {
        "left": Buffer(left, one, side),
        "right": Buffer(right, other, side),
        "output": result,
        "scale": 0,
        "shift": 0,
        "mask": mask(output, side),
        "numbers": copied(spec.numbers(), side),
    }
    run(spec, args)
    result.check(FUNCTIONS[activation](exact).float().numpy())


@few
@given(*common, st.integers(0, 2), st.integers(0, 2))
def test_copy_to_a_range_of_channels(
    lanes, side, activation, images, channels, height, width, pads, before, behind
):
    source, *_ = layouts(images, channels, height, width, pads)
    layout = Planes(images, before + channels + behind, height, width, width + pads, 17)
    values, output = numbers(2, images, channels, height, width), Buffer(layout, at=side)
    spec = Copy(lanes, source, source, layout)
    args = {"left": Buffer(source, values, side), "output": output.channel(before)}
    unused = dict.fromkeys(("right", "scale", "shift", "mask"), 0)
    run(spec, {**args, **unused, "numbers": copied(spec.numbers(), side)})
    output.check(values, slice(before, before + channels), tolerance=0)


def test_large_planes_are_cut():
    layout = Planes(1, 2, 250, 250, 251, 0)
    spec = Add(8, layout, layout, layout)
    assert spec.items > 4
    values = numbers(0, 1, 2, 250, 250)
    result, same = Buffer(layout), Buffer(layout, values)
    args = {
        "left": same,
        "right": same,
        "output": result,
        "scale": 0,
        "shift": 0,
        "mask": mask(layout, "end"),
    }
    run(spec, {**args, "numbers": spec.numbers()}, reversed(range(spec.items)))
    result.check(2 * values, tolerance=0)
