import numpy as np
import pytest
import torch
from tests.runtime.onnx_frontend.nodes import (
    assert_close,
    by_runtime,
    check,
    helper,
    node,
    noise,
    results,
    write,
)

from gpmt.errors import CheckpointError, RuntimeProgramError
from gpmt.runtime.onnx_frontend import flatten
from gpmt.runtime.onnx_frontend.model_file import read_model_file
from gpmt.runtime.onnx_frontend.open import open_onnx

OPSET = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]


def call(name, inputs, outputs, **attributes):
    return helper.make_node(name, inputs, outputs, domain="own", name=name, **attributes)


def leaky(name="leaky", alpha="alpha"):
    """A function with an attribute: leaky ReLU of twice its input."""
    inner = node("LeakyRelu", ["t"], ["y"])
    inner.attribute.add(name="alpha", type=1, ref_attr_name=alpha)
    nodes = [node("Add", ["x", "x"], ["t"]), inner]
    return helper.make_function("own", name, ["x"], ["y"], nodes, OPSET, [alpha])


def test_functions_of_the_file(tmp_path):
    nodes = [
        call("leaky", ["x"], ["t"], alpha=0.5),
        call("leaky", ["t"], ["u"], alpha=0.25),
        node("Sub", ["u", "t"], ["y"]),
    ]
    path = write(tmp_path / "a.onnx", nodes, {"x": noise(3, 4)}, functions=[leaky()], inferred=False)
    network = open_onnx(path)
    x = torch.from_numpy(noise(3, 4))
    once = torch.nn.functional.leaky_relu(2 * x, 0.5)
    expected = torch.nn.functional.leaky_relu(2 * once, 0.25) - once
    assert torch.allclose(network(x), expected)


def test_functions_in_functions(tmp_path):
    nodes = [call("leaky", ["a"], ["t"], alpha=0.5), node("Relu", ["t"], ["b"])]
    outer = helper.make_function("own", "outer", ["a"], ["b"], nodes, OPSET)
    path = write(
        tmp_path / "a.onnx",
        [call("outer", ["x"], ["y"])],
        {"x": noise(3)},
        functions=[leaky(), outer],
        inferred=False,
    )
    assert torch.equal(open_onnx(path)(torch.tensor([-1.0, 0, 2])), torch.tensor([0.0, 0, 4]))


def test_functions_that_call_themselves(tmp_path):
    nodes = [call("again", ["a"], ["t"]), call("again", ["t"], ["b"])]
    again = helper.make_function("own", "again", ["a"], ["b"], nodes, OPSET)
    path = write(
        tmp_path / "a.onnx", [call("again", ["x"], ["y"])], {"x": noise(3)}, functions=[again], inferred=False
    )
    with pytest.raises(
        CheckpointError, match=r"a\.onnx has functions or branches in one another, more than 16 deep"
    ):
        open_onnx(path)


def test_functions_that_multiply(tmp_path, monkeypatch):
    monkeypatch.setattr(flatten, "_MAX_NODES", 1000)
    functions = []
    for level in range(8):
        inner = f"f{level - 1}" if level else "Relu"
        domain = "own" if level else ""
        nodes = [
            helper.make_node(inner, [f"v{i}"], [f"v{i + 1}"], domain=domain, name=f"n{i}") for i in range(10)
        ]
        functions.append(helper.make_function("own", f"f{level}", ["v0"], ["v10"], nodes, OPSET))
    path = write(
        tmp_path / "a.onnx", [call("f7", ["x"], ["y"])], {"x": noise(3)}, functions=functions, inferred=False
    )
    with pytest.raises(RuntimeProgramError, match=r"a\.onnx has more than 1,000 nodes; export a smaller"):
        open_onnx(path)


def branches(condition_of):
    def side(name, operator):
        graph = helper.make_graph(
            [node(operator, ["x", "inner"], ["out"])],
            name,
            [],
            [helper.make_tensor_value_info("out", 1, None)],
            initializer=[helper.make_tensor("inner", 1, [1], [2.0])],
        )
        return {name: graph}

    both = {**side("then_branch", "Add"), **side("else_branch", "Mul")}
    return [*condition_of, node("If", ["condition"], ["z"], **both), node("Relu", ["z"], ["y"])]


@pytest.mark.parametrize("length", [2, 3])
def test_branches_that_shapes_decide(tmp_path, length):
    condition = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "zero"], ["n"]),
        node("Equal", ["n", "two"], ["condition"]),
    ]
    constants = {"zero": np.array(0), "two": np.array(2)}
    nodes = branches(condition)
    network = check(tmp_path / "a.onnx", nodes, {"x": noise(length, 4)}, constants, opset=13, ir_version=8)
    other = noise(5 - length, 4)
    expected = np.maximum(other + 2 if length == 3 else other * 2, 0)
    assert_close(results(network(torch.from_numpy(other))), [expected], 1e-6)


@pytest.mark.parametrize("taken", [True, False])
def test_branches_that_a_constant_decides(tmp_path, taken):
    inputs = {"x": noise(3, 4)}
    path = write(tmp_path / "a.onnx", branches([]), inputs, {"condition": np.array(taken)})
    assert_close(results(open_onnx(path)(torch.from_numpy(noise(3, 4)))), by_runtime(path, inputs), 1e-6)


def test_branches_that_inputs_decide(tmp_path):
    inputs = {"x": noise(3, 4), "condition": np.array(True)}
    network = open_onnx(write(tmp_path / "a.onnx", branches([]), inputs))
    with pytest.raises(
        RuntimeProgramError, match=r"If of opset 18 \(node 'the_if': which branch it takes depends"
    ):
        network(torch.ones(3, 4), torch.tensor(True))


def test_names_of_nodes(tmp_path):
    nodes = [helper.make_node("Relu", ["x"], ["a"]), node("Relu", ["a"], ["y"])]
    file = read_model_file(write(tmp_path / "a.onnx", nodes, {"x": noise(3)}))
    assert [found.name for found in file.nodes] == ["a", "the_relu"]
    assert [found.version for found in file.nodes] == [14, 14]
