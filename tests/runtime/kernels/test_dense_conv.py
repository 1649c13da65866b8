"""Dense convolution against PyTorch in float64, between guard pages."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.runtime.kernels.convolutions import cases
from tests.runtime.kernels.drawing import LANES, SIDES
from tests.runtime.kernels.guarded import copied, run

from gpmt.runtime.codegen.tiles import Tiles
from gpmt.runtime.kernels.dense_conv import DenseConvKernel

SHAPES = st.sampled_from([(3, 4), (2, 6), (1, 8), (4, 3)])  # vectors of a tile, filters of a block


@settings(max_examples=60)
@given(cases(grouped=False), LANES, SHAPES, st.integers(1, 3), SIDES)
def test_equals_pytorch(case, lanes, shape, parts, side):
    (tile, block), offsets = shape, case.taps.offsets
    spec = DenseConvKernel(
        lanes=lanes, tiles=Tiles.of(-(-case.output.extent // lanes), tile), input=case.source, output=case.output,
        residual=case.residual, activation=case.op.activation, parts=parts, filter_group=block, taps=len(offsets),
    )  # fmt: skip
    weights, bias = spec.pack_weights(case.weight, case.op.bias)
    arrays = {"weights": weights, "bias": bias, "offsets": offsets.astype(np.int32)}
    args = case.arguments(spec, side) | {name: copied(array, side) for name, array in arrays.items()}
    run(spec, args)
    args["output"].check(case.expected(), tolerance=3e-6)
