"""Vectors in and out of planes, against NumPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.runtime.kernels.guarded import Buffer, copied, guarded, run

from gpmt.runtime.kernels.vectors import ExportVectorsKernel, FlattenKernel, ImportVectorsKernel
from gpmt.runtime.layout.planes import Planes

sides = st.sampled_from(["start", "end"])
lanes = st.sampled_from([4, 8, 16])
counts = st.integers(1, 5) | st.integers(1, 70)
few = settings(max_examples=12, deadline=None)


def vectors(samples, features, more=0):
    return Planes(1, features, 1, samples, samples + more, more)


def images_of(rows):
    """Return rows [n, features] as the vectors layout has them."""
    return np.ascontiguousarray(rows.T)[None, :, None, :]


def numbers(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


@few
@given(lanes, sides, counts, counts, st.integers(0, 3), st.sampled_from([0, 5]))
def test_import(lanes, side, samples, features, more, pad):
    whole = copied(
        numbers(samples, features + more)[:, more:] if not more else numbers(samples, features + more), side
    )
    rows = whole[:, more:]  # rows that are not contiguous, the last one at the end of the memory
    output = Buffer(vectors(samples, features, pad), at=side)
    spec = ImportVectorsKernel(lanes, output.layout)
    run(spec, {"input": rows.__array_interface__["data"][0], "output": output, "row": rows.strides[0]})
    # Blocks of samples end with zeros; pads beyond them stay as they were.
    np.testing.assert_array_equal(output.pixels, images_of(rows))
    if not pad:
        output.check(images_of(rows), tolerance=0)


@few
@given(lanes, sides, counts, counts, st.sampled_from([0, 5]))
def test_export(lanes, side, samples, features, pad):
    rows = numbers(samples, features)
    output = guarded(rows.size, at=side).reshape(rows.shape)
    layout = vectors(samples, features, pad)
    run(
        ExportVectorsKernel(lanes, layout), {"input": Buffer(layout, images_of(rows), side), "output": output}
    )
    np.testing.assert_array_equal(output, rows)


@few
@given(
    lanes, sides, st.integers(1, 3) | st.integers(1, 40), st.integers(1, 5), st.integers(1, 9), st.integers(1, 20),
    st.integers(0, 9),
)  # fmt: skip
def test_flatten(lanes, side, samples, channels, height, width, pad):
    images = numbers(samples, channels, height, width)
    source = Planes(samples, channels, height, width, width + pad, pad)
    output = Buffer(vectors(samples, channels * height * width), at=side)
    run(
        FlattenKernel(lanes, source, output.layout), {"input": Buffer(source, images, side), "output": output}
    )
    output.check(images_of(images.reshape(samples, -1)), tolerance=0)


@pytest.mark.parametrize(("samples", "features"), [(100, 1030), (1, 25088), (3000, 50)])
def test_many_items(samples, features):
    rows = numbers(samples, features)
    inside, outside = Buffer(vectors(samples, features)), guarded(rows.size).reshape(rows.shape)
    spec = ImportVectorsKernel(8, inside.layout)
    assert spec.items > 5
    run(spec, {"input": rows, "output": inside, "row": rows.strides[0]}, reversed(range(spec.items)))
    run(ExportVectorsKernel(8, inside.layout), {"input": inside, "output": outside})
    np.testing.assert_array_equal(outside, rows)
