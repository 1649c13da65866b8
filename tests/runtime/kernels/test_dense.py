"""Dense convolution against PyTorch in float64, between guard pages."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.runtime.kernels.convolutions import cases
from tests.runtime.kernels.guarded import Buffer, copied, run

from gpmt.runtime.codegen.tiles import Tiles
from gpmt.runtime.kernels.dense import DenseConvKernel, pack

SHAPES = st.sampled_from([(3, 4), (2, 6), (1, 8), (4, 3)])  # vectors of a tile, filters of a bunch


@settings(max_examples=60, deadline=None)
@given(cases(grouped=False), st.sampled_from([4, 8, 16]), SHAPES, st.integers(1, 3), st.booleans())
def test_equals_the_oracle(case, lanes, shape, parts, start):
    at = "start" if start else "end"
    weight, offsets, _, _ = case.taps()
    (tile, bunch), output, residual = shape, case.output, case.residual
    vectors = -(-output.extent // lanes)
    weights, bias = pack(weight, case.op.bias, bunch)
    spec = DenseConvKernel(
        lanes, Tiles.of(vectors, tile), bunch, output.images, len(weight), weight.shape[1], parts,
        case.source.image_bytes, output.image_bytes, output.plane_bytes,
        residual.image_bytes if residual else 0, residual.plane_bytes if residual else 0,
        residual is not None, case.op.activation,
    )  # fmt: skip
    result = Buffer(output, at=at)
    args = {
        "input": Buffer(case.source, case.images, at),
        "output": result,
        "residual": Buffer(residual, case.added, at) if residual else 0,
        "weights": copied(weights, at),
        "bias": copied(bias, at),
        "offsets": copied(offsets.astype(np.int32), at),
        "mask": copied(output.mask(vectors * lanes), at),
        "numbers": copied(spec.numbers(), at),
    }
    run(spec, args)
    result.check(case.expected(), tolerance=3e-6)
