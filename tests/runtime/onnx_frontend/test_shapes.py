import numpy as np
import pytest
import torch
from tests.runtime.onnx_frontend.nodes import check, node, noise, write

from gpmt.errors import RuntimeProgramError
from gpmt.runtime.onnx_frontend.open import open_onnx


@pytest.mark.parametrize("shape", [[6, 4], [-1, 4], [0, -1], [0, 0, 2, 2], [2, 3, 4], [24]])
def test_reshape(tmp_path, shape):
    one = node("Reshape", ["x", "s"], ["y"])
    check(tmp_path / "a.onnx", one, {"x": noise(2, 3, 4)}, {"s": np.array(shape)}, opset=13)


def test_a_shape_of_zero_is_zero_where_it_says_so(tmp_path):
    one = node("Reshape", ["x", "s"], ["y"], allowzero=1)
    check(tmp_path / "a.onnx", one, {"x": noise(0, 3)}, {"s": np.array([3, 0])}, opset=14)


@pytest.mark.parametrize("axis", [None, 0, 1, 2, 3, -1])
def test_flatten(tmp_path, axis):
    attributes = {} if axis is None else {"axis": axis}
    check(tmp_path / "a.onnx", node("Flatten", ["x"], ["y"], **attributes), {"x": noise(2, 3, 4)}, opset=11)


@pytest.mark.parametrize("operator", ["Squeeze", "Unsqueeze"])
@pytest.mark.parametrize("axes", [[0], [2], [0, -1], None])
def test_axes_of_length_one(tmp_path, operator, axes):
    if axes is None and operator == "Unsqueeze":
        return
    inputs = {"x": noise(1, 3, 1, 1) if operator == "Squeeze" else noise(2, 3)}
    attributes = {} if axes is None else {"axes": axes}
    check(tmp_path / "a.onnx", node(operator, ["x"], ["y"], **attributes), inputs, opset=11)
    constants = {} if axes is None else {"a": np.array(axes)}
    check(tmp_path / "a.onnx", node(operator, ["x", *constants], ["y"]), inputs, constants, opset=13)


@pytest.mark.parametrize("order", [None, [0, 1, 2], [2, 0, 1], [1, 0, 2]])
def test_transpose(tmp_path, order):
    attributes = {} if order is None else {"perm": order}
    check(tmp_path / "a.onnx", node("Transpose", ["x"], ["y"], **attributes), {"x": noise(2, 3, 4)}, opset=9)


@pytest.mark.parametrize("shape", [[2, 3, 4], [3, 1], [1], [5, 1, 1, 1]])
def test_expand(tmp_path, shape):
    one = node("Expand", ["x", "s"], ["y"])
    check(tmp_path / "a.onnx", one, {"x": noise(3, 1)}, {"s": np.array(shape)}, opset=9)


def test_tile(tmp_path):
    check(
        tmp_path / "a.onnx",
        node("Tile", ["x", "r"], ["y"]),
        {"x": noise(2, 3)},
        {"r": np.array([2, 1])},
        opset=9,
    )


@pytest.mark.parametrize("operator", ["DepthToSpace", "SpaceToDepth"])
@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_blocks(tmp_path, operator, mode):
    attributes = {"mode": mode} if operator == "DepthToSpace" else {}
    one = node(operator, ["x"], ["y"], blocksize=2, **attributes)
    check(tmp_path / "a.onnx", one, {"x": noise(2, 8, 4, 6)}, opset=11)


def test_shapes_are_known(tmp_path):
    """The usual chain in front of a Reshape is computed when the shapes are known, and leaves no operator."""
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "zero"], ["n"], axis=0),
        node("Unsqueeze", ["n", "axis"], ["u"]),
        node("Concat", ["u", "rest"], ["t"], axis=0),
        node("Reshape", ["x", "t"], ["y"]),
        node("Size", ["x"], ["count"]),
    ]
    constants = {"zero": np.array(0), "axis": np.array([0]), "rest": np.array([-1])}
    network = check(
        tmp_path / "a.onnx", nodes, {"x": noise(2, 3, 4)}, constants, outputs=["y", "count"], opset=13
    )
    assert network(torch.ones(5, 3, 4))["y"].shape == (5, 12)


@pytest.mark.parametrize("attributes", [{}, {"start": 1}, {"start": -2, "end": -1}, {"end": 2}])
def test_parts_of_a_shape(tmp_path, attributes):
    check(tmp_path / "a.onnx", node("Shape", ["x"], ["y"], **attributes), {"x": noise(2, 3, 4)}, opset=15)


@pytest.mark.parametrize(
    ("operator", "constants", "sentence"),
    [
        ("Reshape", {"s": np.array([5, -1])}, "Reshape of opset 18 .*shape '.5, -1.' is invalid"),
        ("Reshape", {"s": np.array([0, 0, 0, 0, 0])}, "copies a dimension that its input does not have"),
        ("Reshape", {"s": np.float32([24])}, "its input 2 does not hold integers"),
        ("Reshape", {"s": np.array([[24]])}, "its input 2 has 2 dimensions, not 1"),
        ("Expand", {"s": np.array([2**40, 1, 1])}, r"would have 1.1e\+12 elements, more than 2,147,483,648"),
        ("Expand", {"s": np.array([2**20, 2**20, 3, 4])}, "elements, more than"),
        ("Tile", {"s": np.array([2**40, 1, 1])}, "elements, more than"),
        ("Tile", {"s": np.array([2])}, "it has 1 repeats for 3 dimensions"),
        ("Squeeze", {"s": np.array([1])}, "it removes axis 1, which has the length 3"),
        ("Unsqueeze", {"s": np.array([9])}, "its axis is 9, but its input has 4 dimensions"),
        ("Unsqueeze", {"s": np.array([0, 0])}, "each can be there once only"),
    ],
)
def test_what_cannot_be(tmp_path, operator, constants, sentence):
    inputs = {"x": noise(2, 3, 4)}
    path = write(tmp_path / "a.onnx", [node(operator, ["x", "s"], ["y"])], inputs, constants, inferred=False)
    with pytest.raises(RuntimeProgramError, match=sentence):
        open_onnx(path)(torch.ones(2, 3, 4))
