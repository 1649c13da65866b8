import logging
import re
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.formats.exporters.networks import pruned, small, zero_counts
from torch import Tensor, nn

from gpmt.errors import CheckpointError
from gpmt.formats.exporters import onnx as exporter
from gpmt.formats.exporters.onnx import OnnxReport, export_onnx

onnx = pytest.importorskip("onnx", reason="gpmt[onnx] is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="gpmt[onnx] is not installed")
pytest.importorskip("onnxscript", reason="gpmt[onnx] is not installed")


def initializers(path: Path) -> dict[str, Any]:
    return {held.name: onnx.numpy_helper.to_array(held) for held in onnx.load(path).graph.initializer}


def run(path: Path, **inputs: Tensor) -> list[Tensor]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return [torch.from_numpy(out) for out in session.run(None, {k: v.numpy() for k, v in inputs.items()})]


def error(expected: Tensor, actual: Tensor) -> float:
    return float((expected - actual).abs().max() / expected.abs().max())


class Exported:
    """One export that several tests look at."""

    def __init__(self, folder: Path) -> None:
        self.module = small()
        self.before = {name: tensor.clone() for name, tensor in self.module.state_dict().items()}
        self.path = folder / "small.onnx"
        self.example = torch.randn(5, 3, 6, 6, generator=torch.Generator().manual_seed(2))
        self.report: OnnxReport = export_onnx(self.module, self.path, self.example)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return Exported(tmp_path_factory.mktemp("onnx"))


def test_every_weight_is_in_the_file_bit_for_bit(exported: Exported) -> None:
    held = initializers(exported.path)
    for name, tensor in exported.module.named_parameters():
        if not name.startswith("auxiliary"):
            assert held[name].tobytes() == tensor.detach().numpy().tobytes(), name
    counts = zero_counts(exported.module)
    assert counts["conv.weight"] > 100
    assert exported.report.unused == ("auxiliary.weight",)
    assert {name: zeros for name, (_, zeros) in exported.report.tensors.items()} == {
        name: int((held[name] == 0).sum()) for name in counts if name != "auxiliary.weight"
    }
    assert exported.report.zeros == sum(counts.values()) - counts["auxiliary.weight"]
    assert exported.report.weights == 8 * 27 + 8 * 8 + 4 * 8


def test_any_batch_size_gives_what_pytorch_gives(exported: Exported) -> None:
    module = exported.module.eval()
    assert set(exported.report.errors) == {1, 3}
    assert all(0 < error < 1e-5 for error in exported.report.errors.values())
    for size in (1, 2, 7):
        images = torch.randn(size, 3, 6, 6)
        (actual,) = run(exported.path, images=images)
        expected = module(images).detach()
        assert error(expected, actual) < 1e-5
        assert expected.std() > 1e-3  # outputs that are all alike would prove nothing
    exported.module.train()


def test_names_shapes_and_opset(exported: Exported) -> None:
    proto = onnx.load(exported.path)
    onnx.checker.check_model(proto, full_check=True)
    assert exported.report.inputs == {"images": ("batch", 3, 6, 6)}
    assert exported.report.outputs == {"output": ("batch", 4)}
    assert [(entry.domain, entry.version) for entry in proto.opset_import] == [("", exported.report.opset)]
    assert exported.report.bytes == exported.path.stat().st_size
    assert {"Conv", "BatchNormalization", "MatMul", "Gemm"} <= {node.op_type for node in proto.graph.node}


def test_nothing_of_the_machine_or_the_example_is_in_the_file(exported: Exported) -> None:
    content = exported.path.read_bytes()
    assert str(Path(__file__).parent).encode() not in content
    assert b".py" not in content
    assert exported.example[0].numpy().tobytes()[:64] not in content


def test_the_network_is_as_it_was(exported: Exported) -> None:
    assert exported.module.training
    assert all(module.training for module in exported.module.modules())
    state = exported.module.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in exported.before.items())
    assert list(exported.path.parent.iterdir()) == [exported.path]


class Several(nn.Module):
    """Two inputs; outputs by name, one of them an input, one twice, one a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.tied = nn.Linear(4, 4)
        self.tied.weight = self.layer.weight
        self.equal = nn.Linear(4, 4)
        self.equal.load_state_dict(self.layer.state_dict())

    def forward(self, left: Tensor, right: Tensor) -> dict[str, Tensor]:
        both = self.equal(self.tied(self.layer(left) + right))
        return {"sum": both, "left": left, "again": both, "weight": self.layer.weight}


def test_several_inputs_and_outputs_and_tied_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, path = pruned(Several(), sparsity=0.5), tmp_path / "a.onnx"
    left, right = torch.randn(2, 4), torch.randn(2, 4)
    report = export_onnx(module, path, {"right": right, "left": left})
    assert report.inputs == {"left": ("batch", 4), "right": ("batch", 4)}
    assert list(report.outputs)[:3] == ["sum", "left_output", "again"]
    actual = run(path, left=left, right=right)
    for ours, theirs in zip(actual, module(left, right).values(), strict=True):
        assert error(theirs.detach(), ours) < 1e-5
    # One tensor for the tied weights, and another for the layer whose weights are merely equal.
    assert list(report.tensors) == ["layer.weight", "equal.weight"]
    assert sum(array.shape == (4, 4) for array in initializers(path).values()) == 2


@pytest.mark.slow
def test_a_text_classifier_of_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="gpmt[hf] is not installed")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    module = pruned(transformers.BertForSequenceClassification(config))
    tokens = torch.randint(50, (2, 9))
    mask = torch.ones_like(tokens)
    mask[1, 5:] = 0
    report = export_onnx(module, tmp_path / "bert.onnx", {"input_ids": tokens, "attention_mask": mask})
    assert report.inputs == {"input_ids": ("batch", 9), "attention_mask": ("batch", 9)}
    assert report.outputs == {"logits": ("batch", 2)}
    assert {name: zeros for name, (_, zeros) in report.tensors.items()} == zero_counts(module)
    assert max(report.errors.values()) < 1e-5
    held = initializers(tmp_path / "bert.onnx")
    for name, tensor in module.named_parameters():
        assert held[name].tobytes() == tensor.detach().numpy().tobytes(), name


@pytest.mark.slow
def test_a_text_generator_of_transformers_returns_no_cache(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="gpmt[hf] is not installed")
    config = transformers.GPT2Config(
        vocab_size=50, n_embd=16, n_layer=1, n_head=2, n_positions=16, bos_token_id=0, eos_token_id=0
    )
    module = transformers.GPT2LMHeadModel(config)
    report = export_onnx(module, tmp_path / "gpt.onnx", {"input_ids": torch.randint(50, (2, 9))}, check=False)
    assert report.outputs == {"logits": ("batch", 9, 50)}
    assert report.errors == {}
    assert module.config.use_cache is True


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.LSTM(4, 6, batch_first=True)

    def forward(self, series: Tensor) -> Tensor:
        return self.cells(series)[0][:, -1]


class Standardised(nn.Module):
    """Weights that are changed before use, which a folding exporter would write changed."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, images: Tensor) -> Tensor:
        weight = self.conv.weight
        return torch.conv2d(images, weight - weight.mean((1, 2, 3), keepdim=True)).mean((2, 3))


@pytest.mark.slow
def test_weights_that_the_network_changes_before_use(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = pruned(Standardised())
    report = export_onnx(module, tmp_path / "a.onnx", torch.randn(2, 3, 5, 5))
    assert {name: zeros for name, (_, zeros) in report.tensors.items()} == zero_counts(module)


@pytest.mark.slow
def test_attention(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = pruned(nn.TransformerEncoderLayer(8, 2, 16))
    report = export_onnx(module, tmp_path / "a.onnx", torch.randn(2, 3, 8))
    assert {name: zeros for name, (_, zeros) in report.tensors.items()} == zero_counts(module)


@pytest.mark.slow
def test_half_precision_and_channels_last(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = pruned(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36, 4)))
    module = module.to(torch.float16, memory_format=torch.channels_last)
    report = export_onnx(module, tmp_path / "a.onnx", torch.randn(2, 3, 5, 5, dtype=torch.float16))
    assert max(report.errors.values()) < 0.01
    held = initializers(tmp_path / "a.onnx")
    assert held["0.weight"].tobytes() == module[0].weight.detach().contiguous().numpy().tobytes()


@pytest.mark.slow
def test_bfloat16_without_the_check(tmp_path: Path) -> None:
    module, path = pruned(nn.Sequential(nn.Linear(8, 8)).bfloat16()), tmp_path / "a.onnx"
    example = torch.randn(2, 8, dtype=torch.bfloat16)
    report = export_onnx(module, path, example, check=False)
    assert {name: zeros for name, (_, zeros) in report.tensors.items()} == zero_counts(module)
    before = path.read_bytes()
    with pytest.raises(
        CheckpointError, match=r"a\.onnx does not run with onnxruntime \(.*\); nothing was written; "
    ):
        export_onnx(module, path, example)
    assert path.read_bytes() == before


@torch.library.custom_op("gpmt_tests::twice", mutates_args=())
def twice(values: Tensor) -> Tensor:
    return values * 2


@twice.register_fake
def _(values: Tensor) -> Tensor:
    return torch.empty_like(values)


class Custom(nn.Linear):
    def forward(self, values: Tensor) -> Tensor:
        return twice(super().forward(values))


def test_an_operator_that_onnx_lacks(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    module, before = Custom(4, 4), b"what was there"
    (tmp_path / "a.onnx").write_bytes(before)
    message = (
        r"^Custom uses the operator gpmt_tests\.twice, for which torch\.onnx has no translation; replace it in the "
        r"network, or export a torch\.export program instead$"
    )
    with pytest.raises(CheckpointError, match=message):
        export_onnx(module, tmp_path / "a.onnx", torch.randn(3, 4))
    assert module.training
    assert (tmp_path / "a.onnx").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("opset", [17, 1000])
def test_an_opset_that_is_not_written(tmp_path: Path, opset: int) -> None:
    with pytest.raises(CheckpointError, match=rf"^opset is {opset}, but must be from 18 to \d+$"):
        export_onnx(nn.Linear(4, 4), tmp_path / "b.onnx", torch.ones(2, 4), opset=opset)


def test_a_folder_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"cannot be written: the folder .*gone does not exist; create it"
    ):
        export_onnx(nn.Linear(4, 4), tmp_path / "gone" / "a.onnx", torch.ones(2, 4))


def test_more_than_protobuf_holds(tmp_path: Path) -> None:
    module = nn.Linear(2**20, 600, device="meta")
    with pytest.raises(
        CheckpointError, match=r"^the weights take 2,516,584,\d+ bytes, but one ONNX file holds 2,1"
    ):
        export_onnx(module, tmp_path / "a.onnx", torch.ones(2, 4))


def test_a_package_that_is_missing() -> None:
    with pytest.raises(
        CheckpointError, match=r"^no_such_runtime is not installed; pip install no_such_runtime"
    ):
        exporter.need("onnx", "no_such_runtime")


def test_warnings_and_logs_stay_inside(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    torch.manual_seed(0)
    module, path = pruned(Recurrent()), tmp_path / "a.onnx"
    levels = {name: logging.getLogger(name).level for name in ("torch.onnx", "onnxscript", "torch.fx")}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        report = export_onnx(module, path, torch.randn(2, 5, 4), opset=18)
    assert [str(entry.message) for entry in caught] == []
    assert capfd.readouterr() == ("", "")
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert levels == {name: logging.getLogger(name).level for name in levels}
    assert report.opset == onnx.load(path).opset_import[0].version == 18
    assert {name: zeros for name, (_, zeros) in report.tensors.items()} == zero_counts(module)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet20", "torchvision:resnet18", "torchvision:mobilenet_v2"])
def test_whole_networks(tmp_path: Path, name: str) -> None:
    pytest.importorskip("torchvision", reason="gpmt[train] is not installed")
    from gpmt.training.models import construct

    torch.manual_seed(0)
    shape = (3, 32, 32) if name == "resnet20" else (3, 64, 64)
    module = construct(name, num_classes=10, input_shape=shape)
    pruned(module, sparsity=0.8, see=torch.randn(8, *shape))
    report = export_onnx(module, tmp_path / "a.onnx", torch.randn(2, *shape))
    assert {key: zeros for key, (_, zeros) in report.tensors.items()} == zero_counts(module)
    assert all(0 < error < 1e-5 for error in report.errors.values())
    assert not re.search(rb"[\w/]+\.py", (tmp_path / "a.onnx").read_bytes())
