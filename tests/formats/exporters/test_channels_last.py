"""Every exporter takes a network in the channels-last format, whose 1×1 and depthwise kernels have odd strides."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.formats.exporters.networks import pruned
from torch import Tensor, nn

import gpmt
from gpmt.formats.checkpoint import save_checkpoint
from gpmt.formats.exporters.csr import export_csr
from gpmt.formats.exporters.hub import export_hub
from gpmt.formats.exporters.onnx import export_onnx
from gpmt.formats.exporters.torch_export import export_program

Export = Callable[[nn.Module, Path, Tensor], object]


class Separable(nn.Sequential):
    """Kernels of all the shapes with dimensions of size 1, and one without."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(4, 8, 1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=1, groups=8),
            nn.Conv2d(8, 6, 3, padding=1),
            nn.Conv2d(6, 6, (1, 3), groups=6),
            nn.Conv2d(6, 1, 1),
            nn.Conv2d(1, 1, 1),
            nn.Flatten(),
            nn.Linear(48, 5),
        )


@pytest.fixture(params=[torch.channels_last, torch.contiguous_format], ids=["channels_last", "as_saved"])
def network(request: pytest.FixtureRequest) -> nn.Module:
    """The network as it was trained, or with the tensors of its saved weights, which a run makes contiguous."""
    torch.manual_seed(0)
    module = pruned(Separable().to(memory_format=torch.channels_last), sparsity=0.5)
    if request.param == torch.contiguous_format:
        contiguous = {name: tensor.contiguous() for name, tensor in module.state_dict().items()}
        module.load_state_dict(contiguous, assign=True)
        assert module[0].weight.is_contiguous()
        assert module[0].weight.stride() != (4, 1, 1, 1)
    else:
        assert not module[4].weight.is_contiguous()
    return module


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 4, 8, 8).contiguous(memory_format=torch.channels_last)


WEIGHTS: dict[str, tuple[str, Export]] = {
    "csr": ("a.pt", lambda module, path, _: export_csr(module.state_dict(), path)),
    "csc": ("a.pt", lambda module, path, _: export_csr(module.state_dict(), path, layout="csc")),
    "hub": ("folder", lambda module, path, _: export_hub(module, path)),
    "torch.save": ("a.pt", lambda module, path, _: save_checkpoint(path, module.state_dict())),
    "safetensors": ("a.safetensors", lambda module, path, _: save_checkpoint(path, module.state_dict())),
    "sparse": ("a.sparse.safetensors", lambda module, path, _: gpmt.save_sparse(module, path)),
}


@pytest.mark.parametrize("kind", WEIGHTS)
def test_weights_are_the_same(network: nn.Module, images: Tensor, tmp_path: Path, kind: str) -> None:
    name, export = WEIGHTS[kind]
    export(network, tmp_path / name, images)
    loaded = gpmt.load(tmp_path / name).state_dict
    for name, tensor in network.state_dict().items():
        assert torch.equal(loaded[name], tensor), name


def test_onnx(network: nn.Module, images: Tensor, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="gpmt[onnx] is not installed")
    report = export_onnx(network, tmp_path / "a.onnx", images)
    assert max(report.errors.values()) < 1e-5
    loaded = gpmt.load(tmp_path / "a.onnx").state_dict
    for name, tensor in network.named_parameters():
        assert torch.equal(loaded[name], tensor), name


def test_a_program_of_torch_export(network: nn.Module, images: Tensor, tmp_path: Path) -> None:
    export_program(network, tmp_path / "a.pt2", images)
    program = torch.export.load(tmp_path / "a.pt2")
    for name, tensor in network.named_parameters():
        assert torch.equal(program.state_dict[name], tensor), name


def test_a_program_of_the_runtime(
    network: nn.Module, images: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPMT_CACHE", str(tmp_path / "cache"))
    gpmt.compile(network.eval(), images, threads=1, tune=False).save(tmp_path / "a.program.safetensors")
    program = gpmt.load_program(tmp_path / "a.program.safetensors", threads=1, tune=False)
    with torch.no_grad():
        expected = network(images)
    torch.testing.assert_close(program(images), expected, rtol=1e-4, atol=1e-5)
