"""Sparse convolution against PyTorch in float64, between guard pages."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.runtime.kernels.convolutions import cases
from tests.runtime.kernels.guarded import Buffer, copied, run

from gpmt.runtime.codegen import jit, processor
from gpmt.runtime.codegen.tiles import Tiles
from gpmt.runtime.ir.activation import RELU
from gpmt.runtime.kernels.sparse import SparseCode, SparseConvKernel, arrange


def convolve(case, lanes, tile, blocks, groups, at="end", order=None):
    weight, offsets, channel, shift = case.taps()
    blocks = 1 if shift is not None else blocks
    output, residual = case.output, case.residual
    vectors = -(-output.extent // lanes)
    made = arrange(
        weight, case.op.bias, offsets, channel, channels=case.source.channels, blocks=blocks, groups=groups,
        shift=shift, output_plane=output.plane_bytes, residual_plane=residual.plane_bytes if residual else 0,
    )  # fmt: skip
    spec = SparseConvKernel(
        lanes, Tiles.of(vectors, tile), output.images, groups, blocks, case.source.image_bytes, output.image_bytes,
        residual.image_bytes if residual else 0, residual is not None, case.op.activation,
    )  # fmt: skip
    result = Buffer(output, at=at)
    args = {
        "input": Buffer(case.source, case.images, at),
        "output": result,
        "residual": Buffer(residual, case.added, at) if residual else 0,
        "stream": copied(made.stream, at),
        "rows": copied(made.rows, at),
        "table": copied(made.table, at),
        "mask": copied(output.mask(vectors * lanes), at),
        "numbers": copied(spec.numbers(), at),
    }
    run(spec, args, order and order(spec.items))
    return result


@settings(max_examples=60, deadline=None)
@given(
    cases(),
    st.sampled_from([4, 8, 16]),
    st.integers(1, 13),
    st.integers(1, 4),
    st.integers(1, 3),
    st.booleans(),
)
def test_equals_the_oracle(case, lanes, tile, blocks, groups, start):
    result = convolve(case, lanes, tile, blocks, groups, "start" if start else "end")
    result.check(case.expected(), tolerance=2e-6)


@settings(max_examples=10, deadline=None)
@given(cases(), st.integers(1, 4))
def test_the_order_of_the_items_changes_no_bit(case, groups):
    one = convolve(case, 8, 3, 2, groups)
    other = convolve(case, 8, 3, 2, groups, order=lambda items: reversed(range(items)))
    assert one.numbers.tobytes() == other.numbers.tobytes()


@pytest.mark.parametrize(("kind", "instruction"), [("avx512", "zmm"), ("avx2", "ymm"), ("neon", "fmla")])
def test_other_processors_get_their_own_instructions(kind, instruction):
    chosen = processor.named(kind)
    text = jit.assembly(SparseCode(chosen.lanes, 6, True, 3, True, RELU).emit(), chosen)
    assert instruction in text
    # One multiply-add for each vector of a tile, in each of the three loops for each of two sizes of tiles.
    assert text.count("vfmadd231ps" if kind != "neon" else "fmla\t") == 3 * (6 + 5)
    assert "call" not in text


def test_weights_that_are_not_zero_come_once_each():
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((10, 12)).astype(np.float32) * (rng.random((10, 12)) < 0.4)
    channel = np.repeat(np.arange(6), 2)
    made = arrange(
        weight,
        np.zeros(10, np.float32),
        np.arange(12) * 4,
        channel,
        channels=6,
        blocks=3,
        groups=2,
        output_plane=64,
    )
    found = np.zeros_like(weight)
    for first, last, start in made.table.reshape(-1, 3):
        place = start // 8
        counts = made.rows[first // 16 : last // 16, 0]
        assert (np.diff(counts) >= 0).all()
        for count, offset, *_ in made.rows[first // 16 : last // 16]:
            for tap, value in made.stream[place : place + count]:
                assert found[offset // 64, tap // 4] == 0
                found[offset // 64, tap // 4] = np.int32(value).view(np.float32)
            place += count
    assert (found == weight).all()
