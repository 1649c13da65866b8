import pytest
import torch
from tests.runtime.onnx_frontend.nodes import node, noise, write

from gpmt.errors import RuntimeProgramError
from gpmt.runtime.onnx_frontend.model_file import read_model_file
from gpmt.runtime.onnx_frontend.network import OnnxNetwork
from gpmt.runtime.onnx_frontend.survey import survey

NODES = [
    node("Shape", ["x"], ["s"]),
    node("Relu", ["x"], ["r"]),
    node("Abs", ["r"], ["a"]),
    node("Reshape", ["a", "s"], ["y"]),
]


def surveyed(path, nodes, room=1000):
    write(path, nodes, {"x": noise(2, 3)}, opset=13, inferred=False)
    OnnxNetwork  # noqa: B018 - importing it fills the table of operators
    file = read_model_file(path)
    return survey(path, file.nodes, file.constants, {"x": torch.empty(2, 3)}, file.outputs, room)


def test_what_shapes_determine(tmp_path):
    found = surveyed(tmp_path / "a.onnx", NODES)
    assert {name: value.tolist() for name, value in found.known.items()} == {"s": [2, 3]}
    assert [step.operator for step in found.steps] == ["Relu", "Abs", "Reshape"]
    assert found.forgotten == [["x"], ["r"], ["a"]]


def test_constants_have_a_limit(tmp_path):
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("ConstantOfShape", ["s"], ["c"]),
        node("Add", ["x", "c"], ["y"]),
    ]
    surveyed(tmp_path / "a.onnx", nodes, room=6)
    with pytest.raises(RuntimeProgramError, match="it is a constant of 6 elements, too large for this file"):
        surveyed(tmp_path / "a.onnx", nodes, room=5)
