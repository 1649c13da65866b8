"""Every way to compute a layer gives the same result, so measuring can only change the time."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.runtime.kernels.convolutions import cases
from tests.runtime.kernels.guarded import Buffer, copied, run
from tests.runtime.layers import linear_layer

from gpmt.errors import RuntimeProgramError
from gpmt.runtime.codegen import processor
from gpmt.runtime.codegen.tiles import Tiles
from gpmt.runtime.ir.activation import IDENTITY, RELU
from gpmt.runtime.kernels.add import AddKernel
from gpmt.runtime.kernels.dense_conv import DenseConvKernel
from gpmt.runtime.kernels.depthwise_conv import DepthwiseConvKernel
from gpmt.runtime.kernels.gemv import GemvKernel
from gpmt.runtime.kernels.sparse_conv import SparseConvKernel
from gpmt.runtime.kernels.sparse_gemv import SparseGemvKernel
from gpmt.runtime.kernels.straight_line_conv import StraightLineConvKernel
from gpmt.runtime.layout.planes import Planes
from gpmt.runtime.layout.taps import Taps
from gpmt.runtime.lowering.candidates import Layer, candidates
from gpmt.runtime.machine_code.executable_memory import ExecutableMemory, refusal


def layer_of(case):
    return Layer(
        case.weight, case.op.bias, case.taps, case.source, case.output, case.residual, case.op.activation
    )


def compute(candidate, layer, images, added=None):
    """Return a buffer with the result of a candidate, between guard pages."""
    result = Buffer(layer.output)
    arrays = {name: copied(array) for name, array in candidate.arrays().items()}
    if candidate.code:
        memory = ExecutableMemory([candidate.code()])
        arrays["code"] = memory.addresses[0]
    planes = {"input": Buffer(layer.input, images), "output": result}
    planes["residual"] = Buffer(layer.residual, added) if layer.residual else 0
    run(candidate.spec, {name: (arrays | planes)[name] for name in candidate.spec.ARGS})
    return result


@settings(max_examples=5)
@given(cases(), st.integers(1, 4), st.sampled_from(["avx512", "avx2", "neon"]))
def test_all_convolutions_agree(case, threads, kind):
    layer, expected = layer_of(case), case.expected()
    same = processor.host().kind == kind
    for candidate in candidates(layer, processor.host() if same else processor.named(kind), threads):
        if candidate.code and not same:
            continue
        compute(candidate, layer, case.images, case.added).check(expected)


@pytest.mark.parametrize(
    ("samples", "features", "filters"), [(1, 70, 33), (3, 40, 20), (5, 9, 4), (40, 30, 17)]
)
@pytest.mark.parametrize("density", [1.0, 0.1, 0.0])
def test_all_linear_layers_agree(samples, features, filters, density):
    layer = linear_layer(samples, features, filters, density, RELU)
    rows = np.random.default_rng(1).standard_normal((samples, features)).astype(np.float32)
    expected = np.maximum(rows.astype(np.float64) @ layer.weight.T.astype(np.float64) + layer.bias, 0)
    found = candidates(layer, processor.host(), 2)
    for candidate in found:
        result = compute(candidate, layer, rows.T[None, :, None])
        np.testing.assert_allclose(result.pixels[0, :, 0].T, expected, atol=1e-5)
    kinds = {type(candidate.spec) for candidate in found} - {StraightLineConvKernel}
    assert kinds == (
        {SparseConvKernel, DenseConvKernel, GemvKernel, SparseGemvKernel}
        if samples <= 4
        else {SparseConvKernel, DenseConvKernel}
    )


def test_the_best_guess_comes_first():
    found = candidates(linear_layer(64, 256, 256), processor.host(), 2)
    assert [candidate.cycles for candidate in found] == sorted(candidate.cycles for candidate in found)


def test_pruned_layers_are_sparse_and_dense_ones_dense():
    def best(density):
        return type(candidates(linear_layer(400, 256, 256, density), processor.host(), 1)[0].spec)

    assert best(1.0) is DenseConvKernel
    assert best(0.05) is SparseConvKernel


@pytest.mark.skipif(refusal() is not None, reason="needs executable memory")
@pytest.mark.parametrize(("kind", "vectors"), [("neon", {1, 2, 4}), ("avx512", {1}), ("avx2", set())])
def test_processors_have_their_shapes_of_straight_line_code(kind, vectors):
    found = candidates(linear_layer(400, 256, 256, 0.1), processor.named(kind), 1)
    specs = [candidate.spec for candidate in found if isinstance(candidate.spec, StraightLineConvKernel)]
    assert {spec.shape.vectors for spec in specs} == vectors
    assert all(spec.processor == kind for spec in specs)


def test_a_pixel_in_the_padding_is_not_a_linear_layer():
    """A window of one pixel that is moved by the padding."""
    source, output = Planes(1, 3, 1, 1, 3, 16), Planes(1, 2, 1, 3, 3, 16)
    channel = np.arange(3, dtype=np.int64)
    weight, bias = np.ones((2, 3), np.float32), np.zeros(2, np.float32)
    layer = Layer(
        weight, bias, Taps(channel * source.plane_bytes - 4, channel, None), source, output, None, IDENTITY
    )
    images = np.full((1, 3, 1, 1), 2.0, np.float32)
    expected = np.array([[[[0, 6, 0]], [[0, 6, 0]]]], np.float32)
    for candidate in candidates(layer, processor.host(), 1):
        compute(candidate, layer, images).check(expected)


@pytest.mark.parametrize("large", ["input", "output"])
def test_more_than_offsets_reach_is_refused(large):
    sizes = {"input": 8, "output": 8} | {large: 1 << 19}
    layer = linear_layer(1024, sizes["input"], sizes["output"], density=0.0)
    with pytest.raises(
        RuntimeProgramError, match=r"works on 2\.\d GiB at once, but its kernels reach 2 GiB; compile for"
    ):
        candidates(layer, processor.host(), 1)


def test_descriptions_name_the_kernel_and_its_parameters():
    sparse, dense = (
        next(
            c.spec
            for c in candidates(linear_layer(400, 256, 256), processor.host(), 1)
            if isinstance(c.spec, kind)
        )
        for kind in (SparseConvKernel, DenseConvKernel)
    )
    split = replace(sparse, tiles=Tiles(3, 3, 9), blocks=2, parts=4)
    assert split.description == "SparseConv 3 tiles of 9 blocks 2 groups 4"
    assert replace(split, blocks=1, parts=1).description == "SparseConv 3 tiles of 9"
    assert (
        replace(dense, tiles=Tiles(2, 1, 4), filter_group=6, parts=2).description
        == "DenseConv 2 tiles of 4 bunch 6 parts 2"
    )
    planes = Planes(1, 2, 3, 4, 5, 0)
    assert AddKernel(8, planes, planes, planes).description == "Add"
    assert DepthwiseConvKernel(8, planes, planes, (1, 1)).description == "Depthwise"
