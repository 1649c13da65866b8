"""Straight-line sparse convolution against PyTorch in float64, between guard pages."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.runtime.kernels.convolutions import cases
from tests.runtime.kernels.guarded import Buffer, backwards, copied, run

from gpmt.runtime.codegen import processor
from gpmt.runtime.kernels.straight_line_conv import StraightLineConvKernel
from gpmt.runtime.layout.planes import Planes
from gpmt.runtime.layout.taps import Taps
from gpmt.runtime.machine_code.executable_memory import ExecutableMemory, refusal
from gpmt.runtime.machine_code.instruction_stream import MOST_FILTERS, MOST_FILTERS_ALIGNED, Shape

pytestmark = [
    pytest.mark.native_only,
    pytest.mark.skipif(
        processor.host().kind != "avx512" or refusal() is not None,
        reason="needs AVX-512 and executable memory",
    ),
]


@st.composite
def shapes(draw):
    aligned = draw(st.booleans())
    filters = draw(st.integers(1, MOST_FILTERS_ALIGNED if aligned else MOST_FILTERS))
    return Shape(filters, draw(st.integers(1, 3)), aligned, draw(st.integers(0, 3)))


def convolve(case, shape, ranges, spans, at="end", order=None):
    spec = StraightLineConvKernel(
        input=case.source, output=case.output, residual=case.residual, activation=case.op.activation,
        shape=replace(shape, passes=min(shape.passes, case.weight.shape[1])),
    )  # fmt: skip
    code = spec.emit_blocks(case.weight, case.op.bias, case.taps)
    groups = code.blocks.shape[1]
    spec = replace(spec, groups=groups, spans=min(spans, groups), ranges=min(ranges, spec.vectors))
    memory = ExecutableMemory([code.data])
    arguments = {name: copied(array, at) for name, array in spec.pack(code).items()}
    arguments |= {
        "code": memory.addresses[0],
        "input": Buffer(case.source, case.images, at),
        "output": Buffer(case.output, at=at),
        "residual": Buffer(case.residual, case.added, at) if case.residual else 0,
    }
    run(spec, arguments, order and order(spec))
    return arguments["output"]


@settings(max_examples=80)
@given(cases(grouped=False), shapes(), st.integers(1, 4), st.integers(1, 3), st.booleans())
def test_equals_pytorch(case, shape, ranges, spans, start):
    assume(case.op.activation.kind in ("none", "clamp"))
    result = convolve(case, shape, ranges, spans, "start" if start else "end")
    result.check(case.expected(), tolerance=2e-6)


@settings(max_examples=10)
@given(cases(grouped=False), shapes())
def test_neither_the_split_nor_the_order_of_the_items_changes_a_bit(case, shape):
    assume(case.op.activation.kind in ("none", "clamp"))
    one = convolve(case, shape, 1, 1)
    other = convolve(case, shape, 3, 2, order=backwards)
    assert one.elements.tobytes() == other.elements.tobytes()


def test_code_and_weights_are_as_long_as_they_should_be():
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((64, 288)).astype(np.float32) * (rng.random((64, 288)) < 0.1)
    planes = Planes(1, 288, 1, 64, 64, 0)
    taps = Taps(np.arange(288) * planes.plane_bytes, np.arange(288), None)
    spec = StraightLineConvKernel(input=planes, output=planes, shape=Shape())
    code = spec.emit_blocks(weight, np.zeros(64, np.float32), taps)
    kept = np.count_nonzero(weight)
    assert code.blocks.shape == (1, 3, 3)
    assert code.loads == sum(
        (weight[first:stop] != 0).any(0).sum() for first, stop in ((0, 21), (21, 42), (42, 64))
    )
    # 7 bytes a multiply-add, 4 its weight, 10 a load; heads and feet about 40 a filter.
    assert 11 * kept + 10 * code.loads < len(code.data) < 11 * kept + 10 * code.loads + 64 * 45 + 3 * 300
