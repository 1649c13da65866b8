import pytest
import torch
from tests.runtime.onnx_frontend.nodes import check, node, noise

from gpmt.runtime.onnx_frontend.linear_layers import MERGED, merge_linear_layers
from gpmt.runtime.onnx_frontend.node import Node


def made(operator, inputs, output):
    return Node(operator, operator, "", 18, 13, tuple(inputs), (output,), {})


CONSTANTS = {"w": torch.ones(3, 4), "b": torch.ones(4), "scalar": torch.ones(()), "row": torch.ones(1, 4)}


@pytest.mark.parametrize("inputs", [("m", "b"), ("b", "m"), ("m", "row")])
def test_a_product_and_a_sum_become_one(inputs):
    nodes = [made("MatMul", ["x", "w"], "m"), made("Add", inputs, "y")]
    (one,) = merge_linear_layers(nodes, CONSTANTS, ["y"])
    assert (one.operator, one.outputs) == (MERGED, ("y",))
    assert one.inputs == ("x", "w", "row" if "row" in inputs else "b")


@pytest.mark.parametrize(
    ("inputs", "extra", "outputs"),
    [
        (("m", "scalar"), [], ["y"]),
        (("m", "x"), [], ["y"]),
        (("m", "m"), [], ["y"]),
        (("m", "b"), [made("Relu", ["m"], "z")], ["y", "z"]),
        (("m", "b"), [], ["y", "m"]),
    ],
)
def test_others_stay(inputs, extra, outputs):
    nodes = [made("MatMul", ["x", "w"], "m"), made("Add", inputs, "y"), *extra]
    assert merge_linear_layers(nodes, CONSTANTS, outputs) == nodes


@pytest.mark.parametrize("shape", [(4,), (2, 4), (2, 3, 4)])
def test_a_bias_of_one_row(tmp_path, shape):
    nodes = [node("MatMul", ["x", "w"], ["m"]), node("Add", ["m", "b"], ["y"])]
    check(tmp_path / "a.onnx", nodes, {"x": noise(*shape)}, {"w": noise(4, 5), "b": noise(1, 5)})


def test_it_computes_the_same(tmp_path):
    nodes = [
        node("MatMul", ["x", "w"], ["m"]),
        node("Add", ["m", "b"], ["h"]),
        node("MatMul", ["h", "v"], ["n"]),
        node("Add", ["n", "h"], ["y"]),
    ]
    constants = {"w": noise(4, 5), "b": noise(5), "v": noise(5, 5, seed=1)}
    check(tmp_path / "a.onnx", nodes, {"x": noise(2, 3, 4)}, constants)
