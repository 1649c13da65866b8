import pytest
from tests.runtime.onnx_frontend.nodes import node, noise, write

import gpmt
from gpmt.errors import RuntimeProgramError


def message(path, nodes, opset=18):
    write(path, nodes, {"x": noise(2, 3)}, {"s": noise(1)}, opset=opset, inferred=False)
    with pytest.raises(RuntimeProgramError) as refused:
        gpmt.compile(path)
    assert "\n" not in str(refused.value)
    return str(refused.value).removeprefix(f"{path} ")


def test_all_unknown_operators_in_one_message(tmp_path):
    nodes = [
        node("Det", ["x"], ["a"]),
        *(node("Shrink", ["x"], [f"b{i}"]) for i in range(5)),
        node("Sum", ["a", *(f"b{i}" for i in range(5))], ["y"]),
    ]
    assert message(tmp_path / "a.onnx", nodes) == (
        "cannot be run because of Det of opset 18 (node 'the_det': it is not supported), "
        "Shrink of opset 18 (nodes 'the_shrink', 'the_shrink_1', 'the_shrink_2' and 2 more: it is not supported); "
        "export the network without them"
    )


def test_quantised_files_are_told(tmp_path):
    nodes = [
        node("QuantizeLinear", ["x", "s"], ["q"]),
        node("DequantizeLinear", ["q", "s"], ["d"]),
        node("Relu", ["d"], ["y"]),
    ]
    found = message(tmp_path / "a.onnx", nodes)
    assert "QuantizeLinear of opset 18 (node 'the_quantizelinear': it is of a quantised network, but" in found
    assert "DequantizeLinear of opset 18" in found
    assert found.endswith("programs compute in float32); export the network before it is quantised")


def test_operators_of_other_domains(tmp_path):
    one = node("FusedThing", ["x"], ["y"], domain="com.microsoft")
    assert "because of com.microsoft.FusedThing of opset 0" in message(tmp_path / "a.onnx", [one])


def test_all_nodes_that_do_not_read_one_another(tmp_path):
    nodes = [
        node("Clip", ["x"], ["a"], min="low"),
        node("LRN", ["x"], ["b"], size=2),
        node("Relu", ["b"], ["c"]),
        node("Sum", ["a", "c"], ["y"]),
    ]
    found = message(tmp_path / "a.onnx", nodes, opset=9)
    assert "Clip of opset 9 (node 'the_clip': its attribute min is 'low', not of the type float)" in found
    assert "LRN of opset 9 (node 'the_lrn': its size is 2, not odd)" in found
    assert "Relu" not in found


def test_messages_are_bounded(tmp_path):
    nodes = [node(f"Unknown{'a' * 500}{i}", ["x"], [f"y{i}"]) for i in range(300)]
    nodes.append(node("Sum", [f"y{i}" for i in range(300)], ["y"]))
    found = message(tmp_path / "a.onnx", nodes)
    assert "and 260 more kinds" in found or len(found) < 1000
    assert len(found) < 20000
