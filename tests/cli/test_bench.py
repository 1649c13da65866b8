import json

import pytest
import torch
from tests.cli.commands import error, gpmt

import gpmt as package

pytestmark = pytest.mark.usefixtures("program_cache")

NAMED = ("--model", "lenet5-caffe", "--input", "1x28x28")
QUICK = ("--threads", "1", "--seconds", "0")


@pytest.fixture
def program(lenet):
    gpmt("export", "runtime", lenet, "-o", "x.program.safetensors", *NAMED, "--quiet")
    return "x.program.safetensors"


def test_a_checkpoint_beside_pytorch(lenet):
    result = gpmt("bench", lenet, *NAMED, *QUICK, "--batch", 2, "--engines", "eager", "--json")
    found = json.loads(result.stdout)
    assert (found["batch"], found["threads"], found["inputs"]) == (2, 1, {"0": [2, 1, 28, 28]})
    assert list(found["engines"]) == ["gpmt", "eager"]
    own, eager = found["engines"].values()
    assert own["times_gpmt"] == 1
    assert own["difference"] < 1e-5
    assert eager["difference"] is None
    assert eager["times_gpmt"] == pytest.approx(eager["seconds"] / own["seconds"], rel=1)
    assert found["rounds"] >= 3
    assert found["compile_seconds"] > 0
    assert found["on_pytorch"] == []
    assert "layers" not in found


def test_onnx_runtime(lenet):
    pytest.importorskip("onnxruntime", reason="needs onnxruntime")
    shown = gpmt("bench", lenet, *NAMED, *QUICK).stdout
    assert "ONNX Runtime" in shown
    assert "PyTorch" in shown
    assert "left out" not in shown


@pytest.mark.slow
def test_a_run_in_channels_last(run):
    pytest.importorskip("onnxruntime", reason="needs onnxruntime")
    found = json.loads(gpmt("bench", run, *QUICK, "--engines", "eager,onnx", "--json").stdout)
    assert list(found["engines"]) == ["gpmt", "eager", "onnx"]
    assert found["engines"]["gpmt"]["difference"] < 1e-5
    assert found["engines"]["onnx"]["difference"] < 1e-5


def test_layers_of_a_program(program):
    found = json.loads(gpmt("bench", program, *QUICK, "--layers", "--json").stdout)
    assert list(found["engines"]) == ["gpmt"]
    names = [layer["name"] for layer in found["layers"]]
    assert "conv2.weight" in names
    assert 1e8 < found["peak_flops"] < 1e12
    for layer in found["layers"]:
        assert 0 <= layer["kept_macs"] <= layer["dense_macs"]
        assert 2 * layer["kept_macs"] / layer["seconds"] <= 1.5 * found["peak_flops"]
    shown = gpmt("bench", program, *QUICK, "--layers").stdout
    assert "conv2 " in shown
    assert "GFLOP/s" in shown
    assert "The peak of 1 thread is" in shown
    assert "bound by" in shown
    [conv] = [layer for layer in found["layers"] if layer["name"] == "conv2.weight"]
    assert conv["bound"]
    assert conv["weight_bytes"] > 4 * conv["kept_macs"] // (24 * 24)
    assert conv["activation_bytes"] >= 4 * (20 * 12 * 12 + 50 * 8 * 8)


def test_what_stays_on_pytorch_is_listed():
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 1), torch.nn.Softplus(), torch.nn.LayerNorm([4, 96, 96])
    ).eval()
    package.compile(network, torch.zeros(1, 3, 96, 96), threads=1, tune=False).save("x")
    shown = gpmt("bench", "x", *QUICK).stdout
    why = "there is no kernel for it; it is not over the last dimension of several"
    assert f"on PyTorch: softplus, layer_norm ({why})" in " ".join(shown.split())
    assert "of the time goes to these operators, which pruning does not make faster" in shown
    assert "has the shape" not in shown
    assert "but the program was compiled for" in error("bench", "x", *QUICK, "--batch", 2)


def test_wrong_requests(lenet, program):
    assert error("bench", lenet, *QUICK) == (
        "lenet.pt does not say which network it belongs to; name it with --model, and --input"
    )
    assert "--engines has 'tvm', but must be none, or some of eager, compile, onnx, openvino" in error(
        "bench", lenet, "--engines", "tvm"
    )
    assert "no other engine runs; leave out --engines" in error("bench", program, *QUICK, "--engines", "onnx")
    assert "no other engine runs; leave out --compare" in error("bench", program, *QUICK, "--compare")
    assert "leave out --model and --input" in error("bench", program, *NAMED)
    assert "does not exist" in error("bench", "none.pt", *NAMED)


@pytest.fixture
def onnx_file(tmp_path):
    onnx = pytest.importorskip("onnx", reason="makes the file")
    pytest.importorskip("onnxruntime", reason="runs the file")
    value = onnx.helper.make_tensor_value_info
    held = onnx.numpy_helper.from_array(torch.eye(4, 3)[:, :, None, None].numpy(), "w")
    nodes = [
        onnx.helper.make_node("Conv", ["x", "w"], ["c"]),
        onnx.helper.make_node("Relu", ["c"], ["y"]),
    ]
    graph = onnx.helper.make_graph(
        nodes, "g", [value("x", 1, ["n", 3, "h", "w"])], [value("y", 1, None)], initializer=[held]
    )
    opset = [onnx.helper.make_opsetid("", 13)]
    path = tmp_path / "model.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return path


def test_an_onnx_file(onnx_file):
    asked = ("--input", "3x5x6", "--batch", 2, "--engines", "eager,onnx", "--layers", "--json")
    found = json.loads(gpmt("bench", onnx_file, *QUICK, *asked).stdout)
    assert (found["batch"], found["inputs"]) == (2, {"0": [2, 3, 5, 6]})
    assert list(found["engines"]) == ["gpmt", "eager", "onnx"]
    assert found["engines"]["gpmt"]["difference"] < 1e-6
    assert found["engines"]["onnx"]["difference"] < 1e-6
    (layer,) = [layer for layer in found["layers"] if layer["dense_macs"]]
    assert (layer["name"], layer["kept_macs"], layer["dense_macs"]) == ("w", 3 * 30, 12 * 30)


def test_an_onnx_file_that_leaves_its_shape_open(onnx_file):
    assert error("bench", onnx_file, *QUICK).endswith(
        "has the input 'x' of the shape n×3×h×w, which is open in more than the batch; give a shape for each input, "
        "such as (1, 3, 224, 224)"
    )


def test_a_damaged_onnx_file(onnx_file):
    content = onnx_file.read_bytes()
    onnx_file.write_bytes(content[: len(content) // 2])
    assert "model.onnx is truncated or damaged" in error("bench", onnx_file, *QUICK)
