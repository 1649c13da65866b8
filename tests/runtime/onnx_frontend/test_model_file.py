"""Files that are damaged, or claim what is not so: one sentence, soon, without much memory."""

import random
import time

import numpy as np
import pytest
import torch
from tests.runtime.onnx_frontend.nodes import TensorProto, helper, node, noise, onnx, write

import gpmt
from gpmt.errors import CheckpointError, GpmtError, RuntimeProgramError
from gpmt.runtime.onnx_frontend.model_file import read_model_file, sizes_text


def small(path, **options):
    nodes = [
        node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1]),
        node("Relu", ["c"], ["r"]),
        node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Shape", ["p"], ["s"]),
        node("Slice", ["s", "zero", "one"], ["n"]),
        node("Concat", ["n", "rest"], ["t"], axis=0),
        node("Reshape", ["p", "t"], ["f"]),
        node("Gemm", ["f", "v", "u"], ["y"], transB=1),
    ]
    constants = {
        "w": noise(4, 3, 3, 3), "b": noise(4), "v": noise(5, 64), "u": noise(5),
        "zero": np.array([0]), "one": np.array([1]), "rest": np.array([-1]),
    }  # fmt: skip
    return write(path, nodes, {"x": (1, ["n", 3, 8, 8])}, constants, **options)


def test_what_a_file_holds(tmp_path):
    file = read_model_file(small(tmp_path / "a.onnx", opset=13))
    assert (file.opset, [*file.inputs], file.outputs) == (13, ["x"], ("y",))
    assert file.inputs["x"].shape == ("n", 3, 8, 8)
    assert [one.operator for one in file.nodes][:3] == ["Conv", "Relu", "MaxPool"]
    assert file.constants["w"].shape == (4, 3, 3, 3)
    assert file.converted == {}


def graph_of(nodes, *, inputs=(), outputs=("y",), held=()):
    info = [helper.make_tensor_value_info(name, 1, shape) for name, shape in inputs]
    results = [helper.make_empty_tensor_value_info(name) for name in outputs]
    return helper.make_graph(list(nodes), "g", info, results, initializer=list(held))


def saved(path, graph, opset=18):
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    path.write_bytes(model.SerializeToString())
    return path


RELU = node("Relu", ["x"], ["y"])
X = [("x", ["n", 3])]


@pytest.mark.parametrize(
    ("graph", "opset", "sentence"),
    [
        (graph_of([], inputs=X, outputs=()), 18, "holds no network of ONNX"),
        (graph_of([RELU], inputs=X), 5, "has opset 5, but opsets 6 to [0-9]+ can be read; convert it with"),
        (graph_of([RELU], inputs=X), 999, "has opset 999, but opsets"),
        (graph_of([RELU]), 18, r"a node 'the_relu' \(Relu\) that reads 'x', which nothing before it makes"),
        (graph_of([RELU, RELU], inputs=X), 18, "makes 'y' twice"),
        (graph_of([node("Relu", ["x"], ["x"])], inputs=X), 18, "makes 'x' twice"),
        (graph_of([RELU], inputs=X, outputs=["z"]), 18, "returns 'z', which nothing makes"),
        (graph_of([RELU], inputs=X, outputs=["y", "y"]), 18, "has no outputs, or one twice"),
        (graph_of([RELU], inputs=X, outputs=[]), 18, "has no outputs, or one twice"),
        (graph_of([RELU], inputs=[*X, *X]), 18, "two inputs of one name"),
        (
            graph_of([RELU], inputs=[("x", [2**40, 3])]),
            18,
            "gives its input 'x' a dimension of 1099511627776",
        ),
        (graph_of([RELU], inputs=[("x", [-3, 3])]), 18, "gives its input 'x' a dimension of -3"),
        (graph_of([RELU], inputs=[("x", [2**16, 2**16, 4])]), 18, "gives its input 'x' the shape"),
        (
            graph_of([RELU], inputs=X, held=[helper.make_tensor("w", 1, [1], [1.0])] * 2),
            18,
            "has an initialiser 'w' that is there twice",
        ),
    ],
)
def test_graphs_that_make_no_sense(tmp_path, graph, opset, sentence):
    with pytest.raises(GpmtError, match=rf"a\.onnx .*{sentence}"):
        gpmt.compile(saved(tmp_path / "a.onnx", graph, opset))


def test_inputs_that_are_no_numbers(tmp_path):
    texts = helper.make_tensor_value_info("x", TensorProto.STRING, [3])
    sequence = helper.make_tensor_sequence_value_info("x", 1, [3])
    for info, sentence in (
        (texts, "in ONNX's type 8, which is not read"),
        (sequence, "which is not a tensor"),
    ):
        graph = graph_of([RELU])
        graph.input.append(info)
        with pytest.raises(RuntimeProgramError, match=sentence):
            gpmt.compile(saved(tmp_path / "a.onnx", graph))


def test_initialisers_that_are_texts(tmp_path):
    held = helper.make_tensor("w", TensorProto.STRING, [1], [b"a"])
    with pytest.raises(RuntimeProgramError, match="has texts for 'w', but only numbers are read"):
        gpmt.compile(saved(tmp_path / "a.onnx", graph_of([RELU], inputs=X, held=[held])))


def test_files_of_other_kinds(tmp_path):
    path = tmp_path / "a.onnx"
    for content in (b"", b"hello", b"\x00" * 100, b"PK\x03\x04" + bytes(50)):
        path.write_bytes(content)
        with pytest.raises(
            CheckpointError, match=r"a\.onnx (is truncated or damaged|holds no network of ONNX)"
        ):
            gpmt.compile(path)
    with pytest.raises(CheckpointError, match=r"b\.onnx cannot be read: No such file"):
        gpmt.compile(tmp_path / "b.onnx")
    with pytest.raises(CheckpointError, match="cannot be read: Is a directory"):
        gpmt.compile(tmp_path)


def test_the_same_data_over_and_over(tmp_path):
    """A file of 4 MiB beside a small one cannot make initialisers of gigabytes."""
    with (tmp_path / "w.bin").open("wb") as file:
        file.truncate(2**22)
    held = []
    for number in range(400):
        proto = TensorProto(name=f"w{number}", data_type=10, dims=[2**21], data_location=TensorProto.EXTERNAL)
        proto.external_data.add(key="location", value="w.bin")
        held.append(proto)
    path = saved(tmp_path / "a.onnx", graph_of([RELU], inputs=X, held=held))
    with pytest.raises(CheckpointError, match="reads the same data over and over; export it again"):
        gpmt.compile(path)


def attempt(path):
    """Compile a file that may be damaged, and run it; nothing but an error of ours may come of it."""
    try:
        network = gpmt.runtime.onnx_frontend.open.open_onnx(path)
        example = gpmt.runtime.onnx_frontend.open.onnx_example(network)
        if sum(tensor.numel() for tensor in example) < 2**20:
            gpmt.runtime.frontend.capture.capture(network, example, thorough=False)
    except GpmtError as error:
        return str(error)
    return ""


def mutated(content, generator):
    changed = bytearray(content)
    match generator.randrange(3):
        case 0:
            return bytes(changed[: generator.randrange(len(changed))])
        case 1:
            for _ in range(generator.randrange(1, 4)):
                changed[generator.randrange(len(changed))] ^= 1 << generator.randrange(8)
        case 2:
            place = generator.randrange(len(changed))
            changed[place : place + generator.randrange(9)] = generator.randbytes(generator.randrange(9))
    return bytes(changed)


def fuzz(tmp_path, count, seed):
    import gpmt.runtime.frontend.capture
    import gpmt.runtime.onnx_frontend.open  # noqa: F401

    content = small(tmp_path / "a.onnx").read_bytes()
    # Without most numbers of weights, so that what is changed is structure.
    model = onnx.load_from_string(content)
    for proto in model.graph.initializer:
        if len(proto.raw_data) > 64:
            size = len(proto.raw_data)
            proto.ClearField("raw_data")
            proto.data_location = TensorProto.EXTERNAL
            proto.external_data.add(key="location", value="w.bin")
            proto.external_data.add(key="length", value=str(size))
    (tmp_path / "w.bin").write_bytes(noise(2**12).tobytes())
    content = model.SerializeToString()
    generator = random.Random(seed)
    refused = 0
    for _ in range(count):
        (tmp_path / "b.onnx").write_bytes(mutated(content, generator))
        start = time.perf_counter()
        sentence = attempt(tmp_path / "b.onnx")
        refused += bool(sentence)
        assert "\n" not in sentence
        assert len(sentence) < 6000
        assert time.perf_counter() - start < 20
    (tmp_path / "b.onnx").write_bytes(content)
    assert attempt(tmp_path / "b.onnx") == ""
    assert refused > count / 4


def test_damaged_files(tmp_path):
    fuzz(tmp_path, 12, seed=0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::gpmt.warning.GpmtWarning")
def test_many_damaged_files(tmp_path):
    fuzz(tmp_path, 3000, seed=1)


NUMBERS = [0, -1, 1, 2**15, 2**31 - 1, 2**31, 2**40, 2**62, -(2**63), 2**63 - 1]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::gpmt.warning.GpmtWarning")
def test_absurd_numbers(tmp_path):
    """Every integer of a file's attributes, shapes and constants becomes one that makes no sense."""
    import gpmt.runtime.frontend.capture
    import gpmt.runtime.onnx_frontend.open  # noqa: F401

    content = small(tmp_path / "a.onnx").read_bytes()
    generator = random.Random(0)
    for _ in range(600):
        model = onnx.load_from_string(content)
        one = generator.choice(model.graph.node)
        number = generator.choice(NUMBERS)
        if one.attribute and generator.random() < 0.5:
            attribute = generator.choice(one.attribute)
            if attribute.ints:
                attribute.ints[generator.randrange(len(attribute.ints))] = number
            else:
                attribute.i = number
        elif generator.random() < 0.5:
            proto = generator.choice(model.graph.initializer)
            if generator.random() < 0.5:
                proto.dims[generator.randrange(len(proto.dims))] = number
            elif proto.data_type == 7:
                proto.raw_data = np.array([number]).tobytes()
        else:
            dimension = generator.choice(model.graph.input[0].type.tensor_type.shape.dim)
            dimension.dim_value = number
        (tmp_path / "b.onnx").write_bytes(model.SerializeToString())
        start = time.perf_counter()
        attempt(tmp_path / "b.onnx")
        assert time.perf_counter() - start < 20


def test_sizes_in_messages():
    assert sizes_text([]) == "one number"
    assert sizes_text(["a" * 99, 3]) == "a" * 40 + "×3"


@pytest.mark.slow
def test_a_small_file_works(tmp_path):
    program = gpmt.compile(small(tmp_path / "a.onnx"), threads=1, tune=False)
    assert program(torch.ones(3, 3, 8, 8)).shape == (3, 5)
    assert program.fallbacks == []
