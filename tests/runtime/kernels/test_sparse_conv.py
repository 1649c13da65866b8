"""Sparse convolution against PyTorch in float64, between guard pages."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.runtime.kernels.convolutions import cases
from tests.runtime.kernels.guarded import backwards, copied, run

from gpmt.runtime.codegen import jit, processor
from gpmt.runtime.codegen.tiles import Tiles
from gpmt.runtime.ir.activation import RELU
from gpmt.runtime.kernels.sparse_conv import SparseCode, SparseConvKernel
from gpmt.runtime.layout.planes import Planes
from gpmt.runtime.layout.taps import Taps


def convolve(case, lanes, tile, blocks, parts, at="end", order=None):
    blocks = 1 if case.taps.filter_offsets is not None else blocks
    spec = SparseConvKernel(
        lanes=lanes, tiles=Tiles.of(-(-case.output.extent // lanes), tile), input=case.source, output=case.output,
        residual=case.residual, activation=case.op.activation, parts=parts, blocks=blocks,
    )  # fmt: skip
    packed = spec.pack_weights(case.weight, case.op.bias, case.taps)
    weights = {name: copied(getattr(packed, name), at) for name in ("stream", "rows", "table")}
    args = case.arguments(spec, at) | weights
    run(spec, args, order and order(spec))
    return args["output"]


@settings(max_examples=60)
@given(
    cases(),
    st.sampled_from([4, 8, 16]),
    st.integers(1, 13),
    st.integers(1, 4),
    st.integers(1, 3),
    st.booleans(),
)
def test_equals_pytorch(case, lanes, tile, blocks, parts, start):
    result = convolve(case, lanes, tile, blocks, parts, "start" if start else "end")
    result.check(case.expected(), tolerance=2e-6)


@settings(max_examples=10)
@given(cases(), st.integers(1, 4))
def test_the_order_of_the_items_changes_no_bit(case, parts):
    one = convolve(case, 8, 3, 2, parts)
    other = convolve(case, 8, 3, 2, parts, order=backwards)
    assert one.elements.tobytes() == other.elements.tobytes()


@pytest.mark.native_only
@pytest.mark.parametrize(("kind", "instruction"), [("avx512", "zmm"), ("avx2", "ymm"), ("neon", "fmla")])
def test_other_processors_get_their_own_instructions(kind, instruction):
    chosen = processor.named(kind)
    code = SparseCode(lanes=chosen.lanes, tile_size=6, uneven=True, residual=True, activation=RELU, passes=3)
    text = jit.assembly(code.emit(), chosen)
    assert instruction in text
    # One multiply-add for each vector of a tile, in each of the three loops for each of two sizes of tiles.
    assert text.count("vfmadd231ps" if kind != "neon" else "fmla\t") == 3 * (6 + 5)
    assert "call" not in text


@pytest.mark.native_only
def test_weights_that_are_not_zero_come_once_each():
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((10, 12)).astype(np.float32) * (rng.random((10, 12)) < 0.4)
    planes = Planes(1, 10, 1, 16, 16, 0)
    assert planes.plane_bytes == 64
    spec = SparseConvKernel(lanes=8, tiles=Tiles.of(2, 2), input=planes, output=planes, parts=2, blocks=3)
    taps = Taps(np.arange(12) * 4, np.repeat(np.arange(6), 2), None)
    packed = spec.pack_weights(weight, np.zeros(10, np.float32), taps)
    found = np.zeros_like(weight)
    for first, stop, start in packed.table.reshape(-1, 3):
        pair = start // 8
        rows = packed.rows[first // 16 : stop // 16]
        assert (np.diff(rows[:, 0]) >= 0).all()
        for count, offset, *_ in rows:
            for tap, value in packed.stream[pair : pair + count]:
                assert found[offset // 64, tap // 4] == 0
                found[offset // 64, tap // 4] = np.int32(value).view(np.float32)
            pair += count
    assert (found == weight).all()
