"""Elementwise operators: products of equal shapes against factors of channels, and images against vectors."""

import numpy as np
import pytest
from tests.runtime.ir.examples import IMAGE, array
from tests.runtime.lowering.lowered import lowered, one_step

from gpmt.runtime.ir.activation import RELU, RELU6
from gpmt.runtime.ir.operators import Add, Affine, GlobalMean, Multiply
from gpmt.runtime.kernels.add import AddKernel
from gpmt.runtime.kernels.affine import AffineKernel
from gpmt.runtime.kernels.gate import GateKernel
from gpmt.runtime.kernels.multiply import MultiplyKernel

PIXEL = (2, 4, 1, 1)


@pytest.mark.parametrize(
    ("factor", "label", "kernel"), [(IMAGE, "multiply", MultiplyKernel), (PIXEL, "gate", GateKernel)]
)
def test_products_of_one_shape_and_factors_of_channels(factor, label, kernel):
    graph = lowered([Multiply("x", "z", "y", RELU6)], {"x": IMAGE, "z": factor, "y": IMAGE})
    step, candidate = one_step(graph, label)
    assert type(candidate.spec) is kernel
    assert candidate.spec.activation == RELU6
    assert step.buffers == {"left": "x:images", "right": "z:images", "output": "y:images"}


def test_a_product_of_pixels_is_not_a_gate():
    graph = lowered([Multiply("x", "z", "y")], {"x": PIXEL, "z": PIXEL, "y": PIXEL})
    assert "multiply" in [step.label for step in graph.steps]


def test_a_gate_reads_the_vectors_that_a_mean_has_made():
    operators = [GlobalMean("x", "mean"), Multiply("x", "mean", "y")]
    graph = lowered(operators, {"x": IMAGE, "mean": PIXEL, "y": IMAGE})
    assert [step.label for step in graph.steps] == ["import", "mean", "gate", "export"]
    assert one_step(graph, "gate")[0].buffers["right"] == "mean:vectors"


def test_pixels_that_are_vectors_stay_vectors():
    operators = [GlobalMean("x", "mean"), Add("mean", "mean", "y", RELU)]
    graph = lowered(operators, {"x": IMAGE, "mean": PIXEL, "y": PIXEL})
    step, candidate = one_step(graph, "add")
    assert set(step.buffers.values()) == {"mean:vectors", "y:vectors"}
    assert type(candidate.spec) is AddKernel
    assert candidate.spec.activation == RELU


def test_an_affine_map_reads_one_image_and_its_scales():
    affine = Affine("x", "y", array(4), array(4) + 1)
    step, candidate = one_step(lowered([affine], {"x": IMAGE, "y": IMAGE}), "scale")
    assert type(candidate.spec) is AffineKernel
    assert step.buffers == {"left": "x:images", "output": "y:images"}
    arrays = candidate.arrays()
    assert np.array_equal(arrays["scale"], affine.scale)
    assert np.array_equal(arrays["shift"], affine.shift)


def test_all_operands_have_rows_of_one_pitch():
    graph = lowered([Add("x", "z", "y")], {"x": IMAGE, "z": IMAGE, "y": IMAGE})
    assert len({planes.pitch for planes in graph.planes.values()}) == 1
