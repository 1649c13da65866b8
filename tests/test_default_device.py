"""`torch.set_default_device` decides where users' tensors are made, and nothing of gpmt's own.

The meta device stands for a GPU: what is made there by mistake has no data.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gpmt
from gpmt import allocations
from gpmt.formats.checkpoint import save_checkpoint
from gpmt.formats.exporters.csr import export_csr
from gpmt.formats.exporters.onnx import export_onnx
from gpmt.formats.exporters.torch_export import export_program
from gpmt.formats.torch_sparse import from_csr, to_csc
from gpmt.macs import count_macs

SOURCE = Path(gpmt.__file__).parent


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1)]
    network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(8, 64), nn.Linear(64, 64)).eval()
    gpmt.prune_(network, sparsity=0.9, min_kept=2)
    return network


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 8, 8)


@pytest.fixture
def elsewhere(network: nn.Module, images: Tensor) -> Iterator[None]:
    """Another default device, once network and images are made."""
    torch.set_default_device("meta")
    yield
    torch.set_default_device(None)


def same(state: Any, network: nn.Module) -> bool:
    expected = network.state_dict()
    return state.keys() == expected.keys() and all(
        value.device.type == "cpu" and torch.equal(value, expected[name]) for name, value in state.items()
    )


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("allocation", allocations.names())
def test_plans(allocation: str) -> None:
    rows = torch.arange(1.0, 65, device="cpu").repeat(64, 1)
    weights = {f"{name}.weight": rows.clone() for name in "abc"}
    assert gpmt.plan(weights, sparsity=0.5, allocation=allocation).masks().total_kept > 0


@pytest.mark.usefixtures("elsewhere")
def test_masks_and_columns(network: nn.Module, tmp_path: Path) -> None:
    masks = gpmt.plan(network, sparsity=0.5, granularity="column", scope="type:Linear").masks()
    masks.save(tmp_path / "m.safetensors")
    again = gpmt.Masks.load(tmp_path / "m.safetensors", of=network)
    assert gpmt.Masks.from_state_dict(masks.state_dict()) == again == masks
    again.apply_(network)
    assert gpmt.verify(network, masks=masks, sparsity=0.5, granularity="column", scope="type:Linear")


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ".sparse.safetensors"])
def test_checkpoints(network: nn.Module, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    save_checkpoint(path, network.state_dict())
    assert same(gpmt.load(path).state_dict, network)
    assert gpmt.verify(path, sparsity=0.9, min_kept=2)


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("values", ["exact", "fp16", "bf16", "int8"])
def test_sparse_files(network: nn.Module, tmp_path: Path, values: Any) -> None:
    path = tmp_path / "a.sparse.safetensors"
    size = gpmt.save_sparse(network, path, values=values)
    for name, value in gpmt.load_sparse(path).items():
        assert (value - network.state_dict()[name]).abs().max() <= size.error
    with gpmt.SparseFile(path) as file:
        assert torch.equal(file.mask("6.weight"), network[6].weight != 0)


@pytest.mark.usefixtures("elsewhere")
def test_compressed_sparse_rows_and_columns(network: nn.Module, tmp_path: Path) -> None:
    assert same(from_csr(to_csc(network.state_dict())), network)
    export_csr(network.state_dict(), tmp_path / "a.pt")


@pytest.mark.usefixtures("elsewhere")
def test_a_training_and_its_state(network: nn.Module, images: Tensor) -> None:
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    pruner = gpmt.Pruner(network, optimizer, schedule=gpmt.Gradual(0.95, end=3, initial=0.9), min_kept=32)
    for _ in range(4):
        network(images).square().mean().backward()
        optimizer.step()
    pruner.load_state_dict(copy.deepcopy(pruner.state_dict()))
    assert gpmt.verify(network, masks=pruner.masks, sparsity=0.95)


@pytest.mark.usefixtures("elsewhere")
def test_programs(network: nn.Module, images: Tensor, tmp_path: Path) -> None:
    expected = network(images)
    program = gpmt.compile(network, images)
    program.save(tmp_path / "a.gpmt")
    for made in (program, gpmt.load_program(tmp_path / "a.gpmt")):
        torch.testing.assert_close(made(images), expected)


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("export", [export_onnx, export_program])
def test_exporters(network: nn.Module, images: Tensor, tmp_path: Path, export: Callable[..., Any]) -> None:
    path = tmp_path / ("a.onnx" if export is export_onnx else "a.pt2")
    export(network, path, images)
    if export is export_onnx:
        weights = gpmt.load(path).state_dict
        assert torch.equal(weights["6.weight"], network[6].weight)


@pytest.mark.usefixtures("elsewhere")
def test_macs(network: nn.Module) -> None:
    assert count_macs(network, (3, 8, 8))["6.weight"] == 64 * 64


@pytest.mark.usefixtures("elsewhere")
def test_data() -> None:
    from gpmt.training.data import datasets

    source = datasets.load("digits", root=None, train_limit=64).placed(
        torch.device("cpu"), rank=0, processes=1
    )
    for images, labels in [*source.train_batches(32, seed=(0,)), *source.test_batches(32)]:
        assert images.device.type == labels.device.type == "cpu"
    assert source.example().device.type == "cpu"


FACTORIES = {
    "arange", "as_tensor", "asarray", "empty", "empty_permuted", "empty_strided", "eye", "full", "linspace",
    "logspace", "normal", "ones", "rand", "randint", "randn", "randperm", "range", "scalar_tensor",
    "sparse_compressed_tensor", "sparse_coo_tensor", "sparse_csc_tensor", "sparse_csr_tensor", "tensor",
    "tril_indices", "triu_indices", "zeros",
}  # fmt: skip
PARAMETERS = {"training/models/fastgrnn.py"}
"""Modules with parameters, which are made on the default device, as those of every network are."""


def factory_calls(code: str) -> list[str]:
    """Return the calls that make a tensor without saying on which device."""
    return [
        ast.unparse(node)
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and (node.func.value.id, node.func.attr) in {("torch", name) for name in FACTORIES}
        and all(keyword.arg != "device" for keyword in node.keywords)
    ]


def test_every_tensor_is_made_on_a_device_that_is_named() -> None:
    assert factory_calls("torch.zeros(3); torch.ones(2, device='cpu'); x.zeros(3)") == ["torch.zeros(3)"]
    files = {str(path.relative_to(SOURCE)): path for path in SOURCE.rglob("*.py")}
    found = {name: factory_calls(path.read_text(encoding="utf-8")) for name, path in files.items()}
    assert not {name: calls for name, calls in found.items() if calls and name not in PARAMETERS}
