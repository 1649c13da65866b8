"""Straight-line sparse convolution against PyTorch in float64, between guard pages."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.runtime.kernels.convolutions import cases
from tests.runtime.kernels.drawing import random_values, transposed, vectors
from tests.runtime.kernels.guarded import Buffer, Code, backwards, copied, processor_kind, run

from gpmt.runtime.ir.activation import RELU
from gpmt.runtime.kernels.straight_line_conv import StraightLineConvKernel
from gpmt.runtime.layout.planes import Planes
from gpmt.runtime.layout.taps import Taps
from gpmt.runtime.machine_code.avx512_blocks import MOST_FILTERS, MOST_FILTERS_ALIGNED
from gpmt.runtime.machine_code.executable_memory import refusal
from gpmt.runtime.machine_code.instruction_stream import Shape
from gpmt.runtime.machine_code.neon_blocks import most_filters
from gpmt.runtime.machine_code.straight_line import DIALECTS


@pytest.fixture(autouse=True, scope="module")
def possible(executor):
    if processor_kind() not in DIALECTS or refusal():
        pytest.skip("needs AVX-512 or NEON, and executable memory")


@st.composite
def shapes(draw):
    passes, over = draw(st.integers(1, 3)), draw(st.integers(0, 3))
    if processor_kind() == "neon":
        count = draw(st.sampled_from([1, 2, 4]))
        return Shape(draw(st.integers(1, most_filters(count))), passes, False, over, count)
    aligned = draw(st.booleans())
    filters = draw(st.integers(1, MOST_FILTERS_ALIGNED if aligned else MOST_FILTERS))
    return Shape(filters, passes, aligned, over)


def compute(spec, weight, bias, taps, ranges, spans, buffers, at="end", order=None):
    """Emit the code of a layer and run it on buffers, by argument."""
    code = spec.emit_blocks(weight, bias, taps)
    groups = code.blocks.shape[1]
    spec = replace(spec, groups=groups, spans=min(spans, groups), ranges=min(ranges, spec.turns))
    arrays = {name: copied(array, at) for name, array in spec.pack(code).items()}
    run(spec, {**arrays, "code": Code(code.data), **buffers}, order and order(spec))


def convolve(case, shape, ranges, spans, at="end", order=None):
    spec = StraightLineConvKernel(
        processor=processor_kind(), input=case.source, output=case.output, residual=case.residual,
        activation=case.op.activation, shape=replace(shape, passes=min(shape.passes, case.weight.shape[1])),
    )  # fmt: skip
    buffers = {
        "input": Buffer(case.source, case.images, at),
        "output": Buffer(case.output, at=at),
        "residual": Buffer(case.residual, case.added, at) if case.residual else 0,
    }
    compute(spec, case.weight, case.op.bias, case.taps, ranges, spans, buffers, at, order)
    return buffers["output"]


@settings(max_examples=80)
@given(cases(grouped=False), st.data(), st.integers(1, 4), st.integers(1, 3), st.booleans())
def test_equals_pytorch(case, data, ranges, spans, start):
    result = convolve(case, data.draw(shapes()), ranges, spans, "start" if start else "end")
    result.check(case.expected(), tolerance=2e-6)


@settings(max_examples=10)
@given(cases(grouped=False), st.data())
def test_neither_the_split_nor_the_order_of_the_items_changes_a_bit(case, data):
    shape = data.draw(shapes())
    one = convolve(case, shape, 1, 1)
    other = convolve(case, shape, 3, 2, order=backwards)
    assert one.elements.tobytes() == other.elements.tobytes()


@pytest.mark.parametrize("density", [1.0, 0.1])
def test_more_weights_and_planes_than_one_address_reaches(density):
    """Code for NEON moves its addresses every 32 KiB of planes and 64 KiB of weights."""
    samples, features, filters = 33, 700, 31
    rows, bias = random_values(1, samples, features), random_values(2, filters)
    weight = random_values(3, filters, features)
    weight *= np.random.default_rng(4).random(weight.shape) < density
    source, output = vectors(samples, features), vectors(samples, filters)
    taps = Taps(np.arange(features) * source.plane_bytes, np.arange(features), None)
    kind = processor_kind()
    for shape in DIALECTS[kind].shapes(crossing=False):
        spec = StraightLineConvKernel(
            processor=kind, input=source, output=output, shape=shape, activation=RELU
        )
        result = Buffer(output)
        buffers = {"input": Buffer(source, transposed(rows)), "output": result, "residual": 0}
        compute(spec, weight, bias, taps, 2, 1, buffers)
        exact = np.maximum(rows.astype(np.float64) @ weight.T.astype(np.float64) + bias, 0)
        result.check(transposed(exact.astype(np.float32)))


@pytest.mark.native_only
def test_code_and_weights_are_as_long_as_they_should_be():
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((64, 288)).astype(np.float32) * (rng.random((64, 288)) < 0.1)
    planes = Planes(1, 288, 1, 64, 64, 0)
    taps = Taps(np.arange(288) * planes.plane_bytes, np.arange(288), None)
    kept = np.count_nonzero(weight)
    # Bytes of a multiply-add and its weight, and of a load; heads and feet about 40 a filter.
    for kind, per_weight, per_load in (("avx512", 11, 10), ("neon", 9, 4)):
        [shape, *_] = DIALECTS[kind].shapes(crossing=False)
        spec = StraightLineConvKernel(processor=kind, input=planes, output=planes, shape=shape)
        code = spec.emit_blocks(weight, np.zeros(64, np.float32), taps)
        assert code.blocks.shape == (1, 3, 3)
        parts = [weight[first:stop] for first, stop in ((0, 21), (21, 42), (42, 64))]
        assert code.loads == sum((part != 0).any(0).sum() for part in parts)
        least = per_weight * kept + per_load * code.loads
        assert least < len(code.data) < least + 64 * 45 + 3 * 300
