"""Attention reads heads where they are; masks and constants are planes of keys."""

import numpy as np
from tests.runtime.ir.examples import EXAMPLES
from tests.runtime.lowering.lowered import lowered, one_step

from gpmt.runtime.ir.operators import Attention
from gpmt.runtime.lowering.steps import BufferAddress


def test_features_of_the_first_head_are_addresses():
    operator, shapes = EXAMPLES[Attention]
    step, candidate = one_step(lowered([operator], shapes), "attention")
    assert [step.arguments[name].channel for name in ("query", "key", "value")] == [2, 1, 3]
    assert step.arguments["mask"] == BufferAddress("m:vectors")
    spec = candidate.spec
    assert (spec.samples, spec.heads, spec.queries, spec.keys, spec.size) == (2, 2, 5, 7, 2)
    assert (spec.mask.samples, spec.mask.heads, spec.mask.queries) == (2, 1, 1)


def test_constants_are_planes_of_keys():
    operator, shapes = EXAMPLES[Attention]
    _, candidate = one_step(lowered([operator], shapes), "attention")
    planes = candidate.arrays()["bias"]
    assert candidate.spec.bias.key_bytes == planes.strides[0]
    np.testing.assert_array_equal(planes[:7, :20].T.reshape(operator.bias.shape), operator.bias)
    assert (
        planes[0].size + planes[:-1].size - 20 >= 7 * planes.shape[1]
    )  # a vector behind the last column is there
