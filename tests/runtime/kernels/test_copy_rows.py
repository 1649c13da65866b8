"""Rows copied between images and tokens, and among constants, against NumPy."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tests.runtime.kernels.drawing import (
    LANES,
    SIDES,
    few_examples,
    layouts,
    random_images,
    random_values,
    transposed,
    vectors,
)
from tests.runtime.kernels.guarded import Buffer, backwards, copied, run

from gpmt.runtime.kernels.copy_rows import CopyRowsKernel, Rows

COUNTS = st.integers(1, 5) | st.integers(1, 70)


def rows_of(layout):
    return Rows(layout.image_stride, layout.plane_stride, layout.pitch)


def tokens_of(layout, row, image=0):
    return Rows(image, layout.plane_stride, row)


@few_examples
@given(LANES, SIDES, layouts())
def test_pixels_as_tokens_and_back(lanes, side, images):
    shape = images.images, images.channels, images.height, images.width
    pixels = images.height * images.width
    values = random_images(1, images)
    tokens = vectors(images.images * pixels, images.channels)
    expected = transposed(values.transpose(0, 2, 3, 1).reshape(-1, images.channels))
    result = Buffer(tokens, at=side)
    compact = tokens_of(tokens, images.width, pixels)
    spec = CopyRowsKernel(lanes, rows_of(images), compact, *shape, images.width, tail=tokens.width)
    run(spec, {"input": Buffer(images, values, side), "output": result, "constant": 0}, backwards(spec))
    result.check(expected, tolerance=0)
    back = Buffer(images, at=side)
    spec = CopyRowsKernel(lanes, compact, rows_of(images), *shape, images.pitch)
    run(spec, {"input": Buffer(tokens, expected, side), "output": back, "constant": 0}, backwards(spec))
    back.check(values, tolerance=0)


@few_examples
@given(LANES, SIDES, st.integers(1, 3), COUNTS, st.integers(0, 20), st.integers(0, 20), st.integers(1, 40))
def test_tokens_among_constants(lanes, side, batch, count, before, behind, features):
    placed = before + count + behind
    values, constant = random_values(1, batch, count, features), random_values(2, placed, features)
    source, output = vectors(batch * count, features), vectors(batch * placed, features)
    result = Buffer(output, at=side)
    spec = CopyRowsKernel(
        lanes, tokens_of(source, count), tokens_of(output, placed), 1, features, batch, count, placed,
        before, batch * placed, constant=True,
    )  # fmt: skip
    images = transposed(values.reshape(-1, features))
    args = {"input": Buffer(source, images, side), "output": result}
    run(spec, args | {"constant": copied(constant.T, side)}, backwards(spec))
    expected = np.tile(constant, (batch, 1, 1))
    expected[:, before : before + count] += values
    result.check(transposed(expected.reshape(-1, features)), tolerance=0)


@few_examples
@given(LANES, SIDES, st.integers(1, 3), COUNTS, st.integers(0, 20), st.integers(0, 20), st.integers(1, 40))
def test_some_of_the_tokens(lanes, side, batch, count, before, behind, features):
    tokens = before + count + behind
    values = random_values(1, batch, tokens, features)
    source, output = vectors(batch * tokens, features), vectors(batch * count, features)
    result = Buffer(output, at=side)
    spec = CopyRowsKernel(
        lanes, tokens_of(source, tokens), tokens_of(output, count), 1, features, batch, count, count,
        tail=batch * count, skipped=before,
    )  # fmt: skip
    images = transposed(values.reshape(-1, features))
    run(spec, {"input": Buffer(source, images, side), "output": result, "constant": 0}, backwards(spec))
    result.check(transposed(values[:, before : before + count].reshape(-1, features)), tolerance=0)
