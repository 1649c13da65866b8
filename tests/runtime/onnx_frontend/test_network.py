"""Whole networks, as PyTorch's exporters write them, beside ONNX Runtime."""

import warnings

import numpy as np
import pytest
import torch
from tests.runtime.onnx_frontend.nodes import assert_close, by_runtime, node, noise, onnx, results, write
from torch import nn

import gpmt
from gpmt.errors import RuntimeProgramError
from gpmt.runtime.onnx_frontend.open import open_onnx


class Residual(nn.Module):
    """Convolutions, batch norms, a sum and a global mean, as in ResNet."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
        )
        self.a = nn.Sequential(nn.Conv2d(8, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.b = nn.Sequential(nn.Conv2d(16, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16))
        self.short = nn.Sequential(nn.Conv2d(8, 16, 1, 2, bias=False), nn.BatchNorm2d(16))
        self.fc = nn.Linear(16, 10)

    def forward(self, x):
        x = self.stem(x)
        x = torch.relu(self.b(self.a(x)) + self.short(x))
        return self.fc(torch.flatten(nn.functional.adaptive_avg_pool2d(x, 1), 1))


class Mobile(nn.Module):
    """Depthwise convolutions, a gate for each channel, ReLU6, hard swish and hard sigmoid."""

    def __init__(self) -> None:
        super().__init__()
        self.expand = nn.Sequential(nn.Conv2d(3, 12, 1), nn.BatchNorm2d(12), nn.ReLU6())
        self.depth = nn.Sequential(nn.Conv2d(12, 12, 3, 2, 1, groups=12), nn.BatchNorm2d(12), nn.Hardswish())
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(12, 4, 1), nn.ReLU(), nn.Conv2d(4, 12, 1), nn.Hardsigmoid()
        )
        self.project = nn.Conv2d(12, 6, 1)
        self.fc = nn.Sequential(nn.Linear(6, 9), nn.Hardswish(), nn.Dropout(), nn.Linear(9, 5))

    def forward(self, x):
        x = self.depth(self.expand(x))
        return self.fc(self.project(x * self.gate(x)).mean((2, 3)))


def mlp():
    return nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 32), nn.Sigmoid(), nn.Linear(32, 3))


def lenet():
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 10),
    )  # fmt: skip


NETWORKS = {
    "residual": (Residual, (3, 33, 47)),
    "mobile": (Mobile, (3, 16, 15)),
    "mlp": (mlp, (20,)),
    "lenet": (lenet, (1, 28, 28)),
}


def made(name):
    torch.manual_seed(0)
    build, shape = NETWORKS[name]
    network = build()
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
    gpmt.prune_(network, sparsity=0.6)
    return network.eval(), shape


def export(network, path, example, *, dynamo, dynamic=False, **options):
    pytest.importorskip("onnxscript", reason="exports")
    given = {}
    if dynamic and dynamo:
        given["dynamic_shapes"] = ({0: torch.export.Dim("batch")},)
    elif dynamic:
        given["dynamic_axes"] = {"input": {0: "batch"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (example,),
            str(path),
            dynamo=dynamo,
            input_names=["input"],
            verbose=False,
            **given,
            **options,
        )
    return path


@pytest.mark.slow
@pytest.mark.parametrize("dynamo", [True, False], ids=["dynamo", "TorchScript"])
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_that_pytorch_exports(tmp_path, name, dynamo):
    network, shape = made(name)
    for opset in (18, 21) if dynamo else (9, 11, 13, 17):
        if opset == 9 and name == "mobile":
            continue  # the exporter has no hard swish there
        path = export(
            network,
            tmp_path / "a.onnx",
            torch.randn(2, *shape),
            dynamo=dynamo,
            dynamic=True,
            opset_version=opset,
        )
        program = gpmt.compile(path, threads=1, tune=False)
        assert program.inputs == {"input": ((1, *shape), torch.float32)}
        # Hard swish in parts, of vectors, stays on PyTorch; the batch is then fixed.
        assert program.fallbacks == [] or (name, opset) in (("mobile", 11), ("mobile", 13))
        for batch in (1, 3):
            inputs = torch.randn(batch, *shape)
            if program.fallbacks:
                program = gpmt.compile(path, inputs, threads=1, tune=False)
            assert_close(results(program(inputs)), by_runtime(path, {"input": inputs.numpy()}), 2e-6)
            assert_close(results(program(inputs)), [network(inputs).detach().numpy()], 2e-6)


class Encoder(nn.Module):
    """An embedding and two layers of attention, which is captured as exporters write it."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 32)
        self.layers = nn.Sequential(
            *(
                nn.TransformerEncoderLayer(32, 4, 64, activation="gelu", batch_first=True, dropout=0.0)
                for _ in range(2)
            )
        )
        self.fc = nn.Linear(32, 3)

    def forward(self, tokens):
        return self.fc(self.layers(self.embedding(tokens))[:, 0])


@pytest.mark.slow
@pytest.mark.parametrize(("dynamo", "opset"), [(True, 18), (False, 17)])
def test_an_encoder_is_native(tmp_path, dynamo, opset, monkeypatch):
    monkeypatch.setattr(torch.backends.mha, "get_fastpath_enabled", lambda: False)
    torch.manual_seed(0)
    tokens = torch.randint(0, 50, (1, 12))
    path = export(Encoder().eval(), tmp_path / "a.onnx", tokens, dynamo=dynamo, opset_version=opset)
    program = gpmt.compile(path, threads=1, tune=False)
    assert_close(results(program(tokens)), by_runtime(path, {"input": tokens.numpy()}), 2e-6)
    assert program.fallbacks == []


@pytest.mark.slow
def test_resnet18(tmp_path):
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(0)
    network = torchvision.models.resnet18(num_classes=10).eval()
    gpmt.prune_(network, sparsity=0.9)
    inputs = torch.randn(1, 3, 65, 80)
    path = export(network, tmp_path / "a.onnx", inputs, dynamo=True, dynamic=False)
    program = gpmt.compile(path, threads=2, tune=False)
    assert_close(results(program(inputs)), by_runtime(path, {"input": inputs.numpy()}), 2e-6)
    assert program.fallbacks == []
    names = [layer.name for layer in program.layers(inputs) if layer.dense_macs]
    assert "layer1.0.conv1.weight" in names
    kept = sum(layer.kept_macs for layer in program.layers(inputs))
    assert kept < 0.3 * sum(layer.dense_macs for layer in program.layers(inputs))


@pytest.mark.slow
def test_zeros_are_skipped_and_names_are_kept(tmp_path):
    weight = noise(8, 3, 1, 1)
    weight[2:] = 0
    nodes = [node("Conv", ["x", "layer.0.weight"], ["c"]), node("Relu", ["c"], ["y"])]
    path = write(tmp_path / "a.onnx", nodes, {"x": (1, ["n", 3, 4, 5])}, {"layer.0.weight": weight})
    program = gpmt.compile(path, threads=1, tune=False)
    (layer,) = [layer for layer in program.layers(torch.ones(1, 3, 4, 5)) if layer.dense_macs]
    assert (layer.name, layer.kept_macs, layer.dense_macs) == ("layer.0.weight", 6 * 20, 24 * 20)
    assert program(torch.ones(7, 3, 4, 5)).shape == (7, 8, 4, 5)


def test_several_inputs_and_outputs_by_name(tmp_path):
    nodes = [node("Add", ["a:0", "b"], ["sum.1"]), node("Sub", ["a:0", "b"], ["difference"])]
    inputs = {"a:0": noise(2, 3, 4, 5), "b": noise(2, 3, 4, 5, seed=1)}
    path = write(tmp_path / "a.onnx", nodes, inputs, outputs=["sum.1", "difference"])
    program = gpmt.compile(path, threads=1, tune=False)
    one, other = (torch.from_numpy(value) for value in inputs.values())
    by_name = program(**{"a:0": one, "b": other})
    by_place = program(one, other)
    assert [*by_name] == [*by_place] == ["sum.1", "difference"]
    for found in (by_name, by_place):
        assert torch.equal(found["sum.1"], one + other)
        assert torch.equal(found["difference"], one - other)


def test_an_input_that_is_an_initialiser_is_a_constant(tmp_path):
    inputs = {"x": noise(2, 3), "c": noise(3)}
    path = write(tmp_path / "a.onnx", [node("Mul", ["x", "c"], ["y"])], inputs, {"c": inputs["c"]})
    network = open_onnx(path)
    assert [*network.inputs] == ["x"]
    assert_close(results(network(torch.from_numpy(inputs["x"]))), by_runtime(path, {"x": inputs["x"]}), 1e-6)


def test_what_no_output_needs_is_left_out(tmp_path):
    nodes = [node("Relu", ["x"], ["y"]), node("NonMaxSuppression", ["x", "x"], ["z"])]
    path = write(tmp_path / "a.onnx", nodes, {"x": noise(2, 3)}, {"w": noise(100)}, inferred=False)
    network = open_onnx(path)
    assert [*network.parameters()] == []
    assert network(torch.tensor([[-1.0, 2, 3]] * 2))[0, 0] == 0


def test_constants_are_computed_once(tmp_path):
    nodes = [node("Transpose", ["w"], ["t"], perm=[1, 0]), node("MatMul", ["x", "t"], ["y"])]
    path = write(tmp_path / "a.onnx", nodes, {"x": noise(2, 3)}, {"w": noise(4, 3)})
    network = open_onnx(path)
    assert {name: tuple(value.shape) for name, value in network.named_parameters()} == {"w": (3, 4)}


@pytest.mark.slow
def test_a_program_of_a_file_is_saved(tmp_path):
    path = write(tmp_path / "a.onnx", [node("Relu", ["x"], ["y"])], {"x": (1, ["n", 3, 4, 4])}, outputs=["y"])
    gpmt.compile(path, threads=1, tune=False).save(tmp_path / "a.program.safetensors")
    again = gpmt.load_program(tmp_path / "a.program.safetensors", threads=1, tune=False)
    assert again.inputs == {"x": ((1, 3, 4, 4), torch.float32)}
    assert again(-torch.ones(2, 3, 4, 4)).abs().max() == 0


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ([], "has the inputs x, but was called with 0 without a name and none by name"),
        ([torch.ones(2, 3), torch.ones(2, 3)], "but was called with 2 without a name"),
        ([torch.ones(2, 4)], "has the input 'x' of the shape 2×3, but was given 2×4"),
        ([torch.ones(2, 3, 1)], "has the input 'x' of the shape 2×3, but was given 2×3×1"),
        ([torch.ones(2, 3, dtype=torch.int64)], "has the input 'x' in float32, but was given int64"),
    ],
)
def test_inputs_that_do_not_fit(tmp_path, given, sentence):
    path = write(tmp_path / "a.onnx", [node("Relu", ["x"], ["y"])], {"x": noise(2, 3)})
    with pytest.raises(RuntimeProgramError, match=sentence):
        open_onnx(path)(*given)


LIGHT = {"densenet121", "inception_v1", "inception_v2", "resnet50", "shufflenet", "squeezenet"}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(LIGHT))
def test_networks_that_caffe2_exported(tmp_path, name):
    """Of opset 9; onnx comes with them, their weights computed by nodes, which are given numbers here."""
    from pathlib import Path

    held = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light" / f"light_{name}.onnx"
    if not held.exists():
        pytest.skip("this onnx comes without them")
    model = onnx.load(held)
    shapes = {proto.name: onnx.numpy_helper.to_array(proto) for proto in model.graph.initializer}
    kept, random = [], np.random.default_rng(0)
    for one in model.graph.node:
        if one.op_type == "ConstantOfShape" and len(shapes[one.input[0]]) > 1:
            size = shapes[one.input[0]]
            weight = (
                random.standard_normal(size) * np.sqrt(2 / np.prod(size[1:])) * (random.random(size) < 0.3)
            )
            model.graph.initializer.append(
                onnx.numpy_helper.from_array(weight.astype(np.float32), one.output[0])
            )
        else:
            kept.append(one)
    del model.graph.node[:]
    model.graph.node.extend(kept)
    onnx.save(model, tmp_path / "a.onnx")
    program = gpmt.compile(tmp_path / "a.onnx", threads=2, tune=False)
    (found,) = program.inputs.items()
    inputs = torch.randn(found[1][0])
    expected = by_runtime(tmp_path / "a.onnx", {found[0]: inputs.numpy()})
    assert_close(results(program(inputs)), expected, 1e-5)
