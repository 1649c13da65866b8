import numpy as np
import pytest
from tests.runtime.onnx_frontend.nodes import check, node, noise

PLAIN = {
    "Abs": 6, "Acos": 7, "Asin": 7, "Asinh": 9, "Atan": 7, "Atanh": 9, "Ceil": 6, "Cos": 7, "Cosh": 9,
    "Erf": 9, "Exp": 6, "Floor": 6, "HardSwish": 14, "Neg": 6, "Reciprocal": 6, "Relu": 6, "Round": 11,
    "Sigmoid": 6, "Sign": 9, "Sin": 7, "Sinh": 9, "Softplus": 1, "Softsign": 1, "Tan": 7, "Tanh": 6, "Mish": 18,
    "Selu": 6, "Elu": 6, "Celu": 12, "LeakyRelu": 6, "HardSigmoid": 6, "ThresholdedRelu": 10, "Gelu": 20,
}  # fmt: skip
"""Functions of one element, and the opset that brought them."""


def test_all_in_one_file(tmp_path):
    nodes = [node(operator, ["x"], [operator]) for operator in PLAIN]
    check(tmp_path / "a.onnx", nodes, {"x": noise(2, 3, 5) * 0.5}, outputs=[*PLAIN], opset=21)


@pytest.mark.slow
@pytest.mark.parametrize("operator", PLAIN)
def test_functions_of_one_element(tmp_path, operator):
    values = noise(2, 3, 5) * 0.5
    values[0, 0] = [0, 0.5, -0.5, 0.99, -0.99]
    for opset in {max(9, PLAIN[operator]), 22}:
        check(tmp_path / "a.onnx", node(operator, ["x"], ["y"]), {"x": values}, opset=opset)


@pytest.mark.parametrize("operator", ["Sqrt", "Log", "Acosh"])
def test_functions_of_positive_numbers(tmp_path, operator):
    check(tmp_path / "a.onnx", node(operator, ["x"], ["y"]), {"x": np.abs(noise(7)) + 1}, opset=13)


@pytest.mark.parametrize(
    ("operator", "attributes", "opset"),
    [
        ("LeakyRelu", {"alpha": 0.3}, 9),
        ("Elu", {"alpha": 0.3}, 9),
        ("Celu", {"alpha": 0.3}, 12),
        ("Selu", {"alpha": 1.3, "gamma": 0.7}, 9),
        ("HardSigmoid", {"alpha": 0.5, "beta": 0.6}, 9),
        ("HardSigmoid", {"alpha": 1 / 6}, 14),
        ("ThresholdedRelu", {"alpha": 0.4}, 10),
        ("Gelu", {"approximate": "tanh"}, 20),
    ],
)
def test_attributes(tmp_path, operator, attributes, opset):
    check(tmp_path / "a.onnx", node(operator, ["x"], ["y"], **attributes), {"x": noise(3, 4)}, opset=opset)


@pytest.mark.parametrize("bounds", [{}, {"min": 0.0}, {"max": 6.0, "min": 0.0}, {"max": 0.3}])
def test_clip_by_attributes(tmp_path, bounds):
    check(tmp_path / "a.onnx", node("Clip", ["x"], ["y"], **bounds), {"x": noise(3, 4) * 4}, opset=9)


@pytest.mark.slow
@pytest.mark.parametrize(("low", "high"), [(None, None), (0.0, None), (0.0, 6.0), (None, 0.3), (-0.2, 0.3)])
@pytest.mark.parametrize("opset", [11, 12, 13])
def test_clip_by_inputs(tmp_path, low, high, opset):
    bounds = {name: np.float32(value) for name, value in (("low", low), ("high", high)) if value is not None}
    names = ["low" if low is not None else "", "high" if high is not None else ""]
    check(
        tmp_path / "a.onnx", node("Clip", ["x", *names], ["y"]), {"x": noise(3, 4) * 4}, bounds, opset=opset
    )


def test_clip_by_what_is_computed(tmp_path):
    nodes = [node("ReduceMean", ["x"], ["low"], keepdims=0), node("Clip", ["x", "low"], ["y"])]
    check(tmp_path / "a.onnx", nodes, {"x": noise(3, 4)}, opset=13)


@pytest.mark.parametrize("shape", [(3, 1, 1), (1,), (3, 4, 5), (1, 3, 1, 1)])
def test_prelu(tmp_path, shape):
    slope = {"slope": noise(*shape, seed=1)}
    check(tmp_path / "a.onnx", node("PRelu", ["x", "slope"], ["y"]), {"x": noise(2, 3, 4, 5)}, slope, opset=9)


def test_softmax_of_old_and_new(tmp_path):
    for opset in (11, 13):
        one = node("Softmax", ["x"], ["y"], axis=1)
        check(tmp_path / "a.onnx", one, {"x": noise(2, 3, 4)}, opset=opset)


@pytest.mark.slow
@pytest.mark.parametrize("operator", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("opset", [9, 11, 13])
@pytest.mark.parametrize("axis", [None, 0, 1, 2, -1])
def test_softmax(tmp_path, operator, opset, axis):
    attributes = {} if axis is None else {"axis": axis}
    for shape in [(2, 3, 4), (2, 5, 1)]:
        check(
            tmp_path / "a.onnx", node(operator, ["x"], ["y"], **attributes), {"x": noise(*shape)}, opset=opset
        )


@pytest.mark.slow
@pytest.mark.parametrize("operator", ["Relu", "Sigmoid", "HardSigmoid", "HardSwish", "Clip"])
def test_activations_of_images_are_native(tmp_path, operator):
    attributes = {"alpha": 1 / 6} if operator == "HardSigmoid" else {}
    inputs = ["x", "low", "high"] if operator == "Clip" else ["x"]
    bounds = {"low": np.float32(-1), "high": np.float32(2)} if operator == "Clip" else {}
    nodes = [node("Conv", ["x", "w"], ["z"]), node(operator, ["z", *inputs[1:]], ["y"], **attributes)]
    constants = {"w": noise(4, 3, 3, 3), **bounds}
    check(tmp_path / "a.onnx", nodes, {"x": noise(2, 3, 7, 9)}, constants, opset=14, native=True)
