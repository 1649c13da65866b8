import numpy as np
import pytest
from tests.runtime.onnx_frontend.nodes import OPSETS, check, node, noise

SHAPES = [((2, 3, 4), (2, 3, 4)), ((2, 3, 4), (4,)), ((3, 1), (2, 1, 5)), ((2, 3), ())]


OF_TWO = ["Add", "Sub", "Mul", "Div", "Greater", "Less", "Equal"]


def test_all_of_two_tensors(tmp_path):
    inputs = {"x": noise(2, 3, 4), "z": noise(3, 1, seed=1)}
    nodes = [node(operator, ["x", "z"], [operator]) for operator in OF_TWO]
    check(tmp_path / "a.onnx", nodes, inputs, outputs=OF_TWO)


@pytest.mark.slow
@pytest.mark.parametrize("operator", OF_TWO)
def test_of_two_tensors(tmp_path, operator):
    for opset in OPSETS if operator != "Equal" else (11, 13):
        for one, other in SHAPES:
            inputs = {"x": noise(*one), "z": noise(*other, seed=1)}
            check(tmp_path / "a.onnx", node(operator, ["x", "z"], ["y"]), inputs, opset=opset)


@pytest.mark.parametrize("operator", ["Add", "Sub", "Mul", "Div", "Mod"])
def test_of_integers(tmp_path, operator):
    inputs = {"x": np.array([-7, 7, 8, -8, 3]), "z": np.array([2, -2, 3, 3, 5])}
    check(tmp_path / "a.onnx", node(operator, ["x", "z"], ["y"]), inputs, opset=14)


def test_mod_of_floats(tmp_path):
    inputs = {"x": noise(9) * 4, "z": noise(9, seed=1)}
    check(tmp_path / "a.onnx", node("Mod", ["x", "z"], ["y"], fmod=1), inputs, opset=13)


@pytest.mark.parametrize("operator", ["GreaterOrEqual", "LessOrEqual"])
def test_comparisons(tmp_path, operator):
    inputs = {"x": np.float32([1, 2, 3]), "z": np.float32([2, 2, 2])}
    check(tmp_path / "a.onnx", node(operator, ["x", "z"], ["y"]), inputs, opset=16)


@pytest.mark.parametrize("operator", ["And", "Or", "Xor"])
def test_of_truths(tmp_path, operator):
    inputs = {"x": np.array([True, True, False, False]), "z": np.array([True, False, True, False])}
    check(tmp_path / "a.onnx", node(operator, ["x", "z"], ["y"]), inputs)


@pytest.mark.parametrize("operator", ["Max", "Min", "Sum", "Mean"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_of_many_tensors(tmp_path, operator, count):
    inputs = {name: noise(2, 3, seed=place) for place, name in enumerate("abc"[:count])}
    for opset in (9, 13):
        check(tmp_path / "a.onnx", node(operator, [*inputs], ["y"]), inputs, opset=opset)


@pytest.mark.parametrize("exponent", [2.0, 0.5, -1.0, 3.0])
def test_powers_of_one_exponent(tmp_path, exponent):
    constants = {"e": np.float32(exponent)}
    for opset in (9, 12, 13, 15):
        check(
            tmp_path / "a.onnx",
            node("Pow", ["x", "e"], ["y"]),
            {"x": np.abs(noise(5))},
            constants,
            opset=opset,
        )


def test_powers_of_many_exponents(tmp_path):
    constants = {"e": np.float32([1, 2, 0.5])}
    check(tmp_path / "a.onnx", node("Pow", ["x", "e"], ["y"]), {"x": np.abs(noise(2, 3))}, constants)


def test_where(tmp_path):
    inputs = {"x": np.array([[True], [False]]), "a": noise(2, 3), "b": noise(3, seed=1)}
    check(tmp_path / "a.onnx", node("Where", ["x", "a", "b"], ["y"]), inputs)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("operator", "shape"),
    [("Add", (4, 1, 1)), ("Sub", (1, 4, 1, 1)), ("Mul", (4, 1, 1)), ("Div", (4, 1, 1)), ("Mul", ())],
)
def test_constants_for_each_channel_are_native(tmp_path, operator, shape):
    nodes = [node("Conv", ["x", "w"], ["z"]), node(operator, ["z", "c"], ["y"])]
    constants = {"w": noise(4, 3, 1, 1), "c": noise(*shape, seed=1) + 3}
    check(tmp_path / "a.onnx", nodes, {"x": noise(2, 3, 5, 7)}, constants, native=True)
    reverse = [nodes[0], node(operator, ["c", "z"], ["y"])]
    check(
        tmp_path / "a.onnx",
        reverse,
        {"x": noise(2, 3, 5, 7)},
        constants,
        native=operator != "Div",
        tolerance=1e-4,
    )
