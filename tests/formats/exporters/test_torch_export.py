import zipfile
from pathlib import Path

import pytest
import torch
from tests.formats.exporters.networks import pruned, small, zero_counts
from torch import Tensor, nn

from gpmt.errors import CheckpointError
from gpmt.formats.exporters.torch_export import export_program


def test_the_program_is_the_network_at_any_batch_size(tmp_path: Path) -> None:
    module, path = small(), tmp_path / "small.pt2"
    report = export_program(module, path, torch.randn(1, 3, 6, 6))
    assert module.training
    assert report.errors == {1: 0.0, 3: 0.0}
    assert {name: zeros for name, (_, zeros) in report.tensors.items()} == zero_counts(module)
    assert report.bytes == path.stat().st_size
    assert list(tmp_path.iterdir()) == [path]
    program = torch.export.load(path)
    for name, tensor in module.named_parameters():
        assert torch.equal(program.state_dict[name], tensor), name
    module.eval()
    for size in (1, 2, 7):
        images = torch.randn(size, 3, 6, 6)
        with torch.no_grad():
            expected = module(images)
            assert torch.equal(program.module()(images), expected)
        assert expected.std() > 1e-3


class Several(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, left: Tensor, right: Tensor) -> dict[str, Tensor]:
        return {"sum": self.layer(left) + right, "left": left}


@pytest.mark.parametrize("form", ["tuple", "dict"])
def test_several_inputs(tmp_path: Path, form: str) -> None:
    module, (left, right) = pruned(Several()), torch.randn(2, 2, 4)
    example = (left, right) if form == "tuple" else {"left": left, "right": right}
    report = export_program(module, tmp_path / "a.pt2", example)
    assert report.errors == {1: 0.0, 3: 0.0}
    call = torch.export.load(tmp_path / "a.pt2").module()
    result = call(*example) if form == "tuple" else call(**example)
    assert torch.equal(result["sum"], module(left, right)["sum"])


@pytest.mark.slow
def test_a_text_classifier_of_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="gpmt[hf] is not installed")
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    module = pruned(transformers.BertForSequenceClassification(config))
    tokens = torch.randint(50, (2, 9))
    example = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
    report = export_program(module, tmp_path / "bert.pt2", example)
    assert max(report.errors.values()) < 1e-6
    assert {name: zeros for name, (_, zeros) in report.tensors.items()} == zero_counts(module)


def test_nothing_of_the_machine_or_the_example_is_in_the_file(tmp_path: Path) -> None:
    example = torch.randn(2, 3, 6, 6)
    export_program(small(), tmp_path / "a.pt2", example)
    with zipfile.ZipFile(tmp_path / "a.pt2") as archive:
        content = b"".join(archive.read(name) for name in archive.namelist())
    assert b".py" not in content
    assert example[0].numpy().tobytes()[:64] not in content
    # What ahead-of-time compilers ask for is there all the same: inputs of the right shape.
    inputs = torch.export.load(tmp_path / "a.pt2").example_inputs
    assert inputs is not None
    assert torch.equal(inputs[0][0], torch.zeros(2, 3, 6, 6))


def test_what_goes_wrong_leaves_nothing_behind(tmp_path: Path) -> None:
    module = small()
    with pytest.raises(CheckpointError, match=r"^Small does not run on the example, a batch of 1×6×6 "):
        export_program(module, tmp_path / "a.pt2", torch.randn(2, 1, 6, 6))
    with pytest.raises(CheckpointError, match=r"gone does not exist; create it first$"):
        export_program(module, tmp_path / "gone" / "a.pt2", torch.randn(2, 3, 6, 6))
    assert list(tmp_path.iterdir()) == []
    assert module.training


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet20", "torchvision:resnet18", "torchvision:mobilenet_v2"])
def test_whole_networks(tmp_path: Path, name: str) -> None:
    pytest.importorskip("torchvision", reason="gpmt[train] is not installed")
    from gpmt.training.models import construct

    shape = (3, 32, 32) if name == "resnet20" else (3, 64, 64)
    module = construct(name, num_classes=10, input_shape=shape)
    pruned(module, sparsity=0.8, see=torch.randn(8, *shape))
    report = export_program(module, tmp_path / "a.pt2", torch.randn(2, *shape))
    assert max(report.errors.values()) < 1e-6
    assert {key: zeros for key, (_, zeros) in report.tensors.items()} == zero_counts(module)
