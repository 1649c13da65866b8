import numpy as np
import pytest
import torch
from tests.runtime.onnx_frontend.nodes import TensorProto, helper, node, noise, numpy_helper, onnx, write

import gpmt
from gpmt.errors import CheckpointError, RuntimeProgramError
from gpmt.runtime.onnx_frontend.open import is_onnx, onnx_example, open_onnx
from gpmt.warning import GpmtWarning


def relu(tmp_path, **inputs):
    names = [*inputs]
    nodes = [node("Sum", names, ["y"])]
    return write(
        tmp_path / "a.onnx", nodes, {name: (1, shape) for name, shape in inputs.items()}, inferred=False
    )


@pytest.mark.parametrize("shape", [[2, 3], ["n", 3], [None, 3]])
def test_shapes_from_the_file(tmp_path, shape):
    network = open_onnx(relu(tmp_path, x=shape))
    (found,) = onnx_example(network, batch=5)
    assert found.shape == ((2 if shape[0] == 2 else 5), 3)


@pytest.mark.parametrize(
    ("shape", "text"),
    [(["n", "c"], "of the shape n×c"), (["n", None], "of the shape n×[?]"), (None, "of no shape")],
)
def test_shapes_that_the_file_leaves_open(tmp_path, shape, text):
    network = open_onnx(relu(tmp_path, x=shape))
    with pytest.raises(
        RuntimeProgramError, match=rf"has the input 'x' {text}, .* such as \(1, 3, 224, 224\)$"
    ):
        onnx_example(network)
    (found,) = onnx_example(network, (4, 7))
    assert found.shape == (4, 7)


@pytest.mark.parametrize(
    "given",
    [
        [(2, 3), (2, 3)],
        {"b": (2, 3), "a": (2, 3)},
        [torch.ones(2, 3), (2, 3)],
        {"a": torch.ones(2, 3), "b": torch.ones(2, 3)},
    ],
)
def test_several_inputs(tmp_path, given):
    network = open_onnx(relu(tmp_path, a=["n", "c"], b=["n", "c"]))
    assert [tuple(part.shape) for part in onnx_example(network, given)] == [(2, 3), (2, 3)]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ((2, 3), r"has 2 inputs \(a, b\), but the example has 1"),
        ({"a": (2, 3)}, "has the inputs a, b, but the example has a; give one for each"),
        ([(2, 3), "x"], r"the example for 'b' of .*a.onnx is 'x', but must be a tensor or a shape"),
        ([(2, 3), (0, 3)], "the example for 'b'"),
        (3, "but the example has 0"),
    ],
)
def test_examples_that_do_not_fit(tmp_path, given, sentence):
    network = open_onnx(relu(tmp_path, a=["n", "c"], b=["n", "c"]))
    with pytest.raises(RuntimeProgramError, match=sentence):
        onnx_example(network, given)


def test_compile_takes_shapes(tmp_path):
    path = relu(tmp_path, x=["n", 3, "h", "w"])
    program = gpmt.compile(str(path), (1, 3, 4, 5), threads=1, tune=False)
    assert program.inputs == {"x": ((1, 3, 4, 5), torch.float32)}
    with pytest.raises(RuntimeProgramError, match="which is open in more than the batch"):
        gpmt.compile(path)
    with pytest.raises(RuntimeProgramError, match="there is no example"):
        gpmt.compile(torch.nn.ReLU())


def test_other_floating_types_are_said(tmp_path):
    held = [numpy_helper.from_array(noise(3, dtype=kind), kind) for kind in ("float16", "float64")]
    nodes = [node("Add", ["x", "float16"], ["a"]), node("Add", ["a", "float64"], ["y"])]
    info = [helper.make_tensor_value_info("x", TensorProto.FLOAT16, ["n", 3])]
    graph = helper.make_graph(nodes, "g", info, [helper.make_empty_tensor_value_info("y")], initializer=held)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), tmp_path / "a.onnx")
    said = r"a.onnx has weights and inputs in other floating types \(2 of float16, 1 of float64\); they are float32"
    with pytest.warns(GpmtWarning, match=said):
        network = open_onnx(tmp_path / "a.onnx")
    expected = noise(3, dtype="float16").astype(np.float32) + noise(3)
    assert torch.allclose(network(torch.zeros(1, 3)), torch.from_numpy(expected), atol=1e-6)


def external(tmp_path, location, *, size=48, offset=0, length=None):
    """Write a file whose weight is in another one."""
    proto = TensorProto(name="w", data_type=1, dims=[4, 3], data_location=TensorProto.EXTERNAL)
    entries = {"location": location, "offset": offset, **({} if length is None else {"length": length})}
    for key, value in entries.items():
        proto.external_data.add(key=key, value=str(value))
    (tmp_path / "weights.bin").write_bytes(noise(4, 3).tobytes()[:size])
    info = [helper.make_tensor_value_info("x", 1, ["n", 3])]
    nodes = [node("Gemm", ["x", "w"], ["y"], transB=1)]
    graph = helper.make_graph(
        nodes, "g", info, [helper.make_empty_tensor_value_info("y")], initializer=[proto]
    )
    path = tmp_path / "a.onnx"
    path.write_bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]).SerializeToString()
    )
    return path


def test_data_in_another_file_are_mapped(tmp_path):
    network = open_onnx(external(tmp_path, "weights.bin"))
    x = torch.ones(1, 3)
    assert torch.allclose(network(x)[0], torch.from_numpy(noise(4, 3)).sum(1), atol=1e-6)
    (weight,) = network.parameters()
    assert weight.untyped_storage().nbytes() == 48
    # A map of the file, not a copy of it.
    with (tmp_path / "weights.bin").open("r+b") as file:
        file.write(np.float32(7).tobytes())
    assert weight[0, 0] == 7


@pytest.mark.parametrize(
    ("location", "options", "sentence"),
    [
        ("../weights.bin", {}, "which may lie outside"),
        ("/etc/passwd", {}, "which may lie outside"),
        ("C:\\weights.bin", {}, "which may lie outside"),
        ("missing.bin", {}, "which is missing in"),
        ("weights.bin", {"size": 40}, "past the end of"),
        ("weights.bin", {"offset": 2**62}, "past the end of"),
        ("weights.bin", {"offset": -4}, "past the end of"),
        ("weights.bin", {"length": 44}, "data of another size for 'w'"),
    ],
)
def test_data_that_are_not_read(tmp_path, location, options, sentence):
    with pytest.raises(CheckpointError, match=sentence):
        gpmt.compile(external(tmp_path, location, **options))


@pytest.mark.slow
def test_more_than_two_gib(tmp_path):
    rows = 2**20 + 2**17
    proto = TensorProto(name="w", data_type=1, dims=[rows, 512], data_location=TensorProto.EXTERNAL)
    proto.external_data.add(key="location", value="w.bin")
    with (tmp_path / "w.bin").open("wb") as file:
        file.truncate(rows * 512 * 4)  # a hole: it takes no room
        file.seek((rows - 1) * 512 * 4)
        file.write(np.full(512, 3, np.float32).tobytes())
    info = [helper.make_tensor_value_info("i", 7, ["n"])]
    nodes = [node("Gather", ["w", "i"], ["y"])]
    graph = helper.make_graph(
        nodes, "g", info, [helper.make_empty_tensor_value_info("y")], initializer=[proto]
    )
    path = tmp_path / "a.onnx"
    path.write_bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]).SerializeToString()
    )
    network = open_onnx(path)
    assert sum(p.numel() * 4 for p in network.parameters()) > 2**31
    assert network(torch.tensor([0, rows - 1])).sum(1).tolist() == [0, 3 * 512]


def test_files_that_are_onnx(tmp_path):
    path = relu(tmp_path, x=["n", 3])
    path.rename(tmp_path / "other.bin")
    assert is_onnx(tmp_path / "other.bin")
    (tmp_path / "b.onnx").write_bytes(b"nothing")
    assert is_onnx(tmp_path / "b.onnx")
    torch.save({}, tmp_path / "c.pth")
    assert not is_onnx(tmp_path / "c.pth")
    assert not is_onnx(tmp_path)


def test_onnx_is_an_extra(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(
        RuntimeProgramError, match=r"onnx is not installed; pip install onnx brings it|cannot be imp"
    ):
        open_onnx(tmp_path / "a.onnx")
