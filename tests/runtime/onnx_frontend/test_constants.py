import numpy as np
import pytest
import torch
from tests.runtime.onnx_frontend.nodes import check, helper, node, noise, numpy_helper, write

from gpmt.errors import RuntimeProgramError
from gpmt.runtime.onnx_frontend.open import open_onnx

X = {"x": noise(2, 3)}


@pytest.mark.parametrize(
    ("attributes", "opset"),
    [
        ({"value": numpy_helper.from_array(noise(3))}, 9),
        ({"value_float": 0.5}, 12),
        ({"value_floats": [0.5, 1.0, 2.0]}, 12),
    ],
)
def test_constants(tmp_path, attributes, opset):
    nodes = [node("Constant", [], ["c"], **attributes), node("Add", ["x", "c"], ["y"])]
    check(tmp_path / "a.onnx", nodes, X, opset=opset)


@pytest.mark.parametrize(
    "attributes", [{"value_ints": [3, 2]}, {"value": numpy_helper.from_array(np.array([3, 2]))}]
)
def test_constants_of_integers(tmp_path, attributes):
    nodes = [node("Constant", [], ["c"], **attributes), node("Reshape", ["x", "c"], ["y"])]
    check(tmp_path / "a.onnx", nodes, X, opset=13)


def test_a_sparse_constant(tmp_path):
    values = numpy_helper.from_array(np.float32([2, 3]), "v")
    indices = numpy_helper.from_array(np.array([0, 2]), "i")
    sparse = helper.make_sparse_tensor(values, indices, [3])
    nodes = [node("Constant", [], ["c"], sparse_value=sparse), node("Add", ["x", "c"], ["y"])]
    path = write(tmp_path / "a.onnx", nodes, X, opset=13, inferred=False)
    assert torch.equal(open_onnx(path)(torch.zeros(2, 3)), torch.tensor([[2.0, 0, 3]] * 2))


@pytest.mark.parametrize("value", [None, np.float32([1.5]), np.array([3])])
def test_constants_of_a_shape(tmp_path, value):
    attributes = {} if value is None else {"value": numpy_helper.from_array(value)}
    nodes = [node("Shape", ["x"], ["s"]), node("ConstantOfShape", ["s"], ["y"], **attributes)]
    check(tmp_path / "a.onnx", nodes, X, opset=9)


@pytest.mark.parametrize(("start", "limit", "step"), [(0, 5, 1), (5, -4, -3), (3, 3, 1), (1, 2, 5)])
def test_ranges(tmp_path, start, limit, step):
    numbers = {name: np.array(value) for name, value in zip("slt", (start, limit, step), strict=True)}
    nodes = [
        node("Range", [*"slt"], ["r"]),
        node("Cast", ["r"], ["f"], to=1),
        node("Mul", ["f", "one"], ["y"]),
    ]
    check(tmp_path / "a.onnx", nodes, {"one": noise(1)}, numbers, opset=11)


def test_places_that_are_not_zero(tmp_path):
    nodes = [node("Shape", ["x"], ["s"]), node("NonZero", ["s"], ["y"])]
    check(tmp_path / "a.onnx", nodes, X, opset=13)


@pytest.mark.parametrize("opset", [9, 12, 13])
def test_what_passes_on(tmp_path, opset):
    nodes = [node("Identity", ["x"], ["a"]), node("Dropout", ["a"], ["b"]), node("Relu", ["b"], ["y"])]
    check(tmp_path / "a.onnx", nodes, X, opset=opset)


@pytest.mark.parametrize("kind", [1, 6, 7, 9])
def test_casts(tmp_path, kind):
    inputs = {"x": np.float32([0, 0.5, -1.7, 3])}
    check(tmp_path / "a.onnx", node("Cast", ["x"], ["y"], to=kind), inputs, opset=9)
    check(tmp_path / "a.onnx", node("Cast", ["x"], ["y"], to=kind), {"x": np.array([0, 2, -1])}, opset=13)


def test_a_cast_to_the_type_of_another(tmp_path):
    inputs = {"x": np.float32([0, 0.5, -1.7]), "z": np.array([1])}
    check(tmp_path / "a.onnx", node("CastLike", ["x", "z"], ["y"]), inputs, opset=15)


def test_half_precision_is_single_precision(tmp_path):
    nodes = [node("Cast", ["x"], ["h"], to=10), node("Cast", ["h"], ["y"], to=1)]
    path = write(tmp_path / "a.onnx", nodes, X)
    x = torch.tensor([[1e-6, 1 / 3, 1e6]])
    assert torch.equal(open_onnx(path)(x.expand(2, 3)), x.expand(2, 3))


@pytest.mark.parametrize(
    ("nodes", "constants", "sentence"),
    [
        ([node("ConstantOfShape", ["s"], ["y"])], {"s": np.array([2**40])}, "elements, more than"),
        ([node("ConstantOfShape", ["s"], ["y"])], {"s": np.array([-1])}, "would have the shape"),
        ([node("Range", ["s", "e", "t"], ["y"])], {"s": 0, "e": 2**60, "t": 1}, "elements, more than"),
        ([node("Range", ["s", "e", "t"], ["y"])], {"s": 0, "e": 2, "t": 0}, "from 0 to 2 in steps of 0"),
        ([node("NonZero", ["x"], ["y"])], {}, "depends on values of the network's inputs"),
        ([node("Cast", ["x"], ["y"], to=8)], {}, "it converts to ONNX's type 8"),
        ([node("Dropout", ["x", "r", "t"], ["y"])], {"r": np.float32(0.5), "t": True}, "is in training mode"),
        ([node("Constant", [], ["y"], value_string="a")], {}, "it holds no numbers"),
    ],
)
def test_what_cannot_be(tmp_path, nodes, constants, sentence):
    held = {name: np.asarray(value) for name, value in constants.items()}
    path = write(tmp_path / "a.onnx", nodes, X, held, inferred=False)
    with pytest.raises(RuntimeProgramError, match=sentence):
        open_onnx(path)(torch.ones(2, 3))
