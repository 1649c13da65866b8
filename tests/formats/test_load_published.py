"""The shapes in which pruned networks are published: the authors' files, made here as their scripts make them."""

import json
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import gpmt
from gpmt.cli import app
from gpmt.errors import CheckpointError, MaskError
from gpmt.formats.checkpoint import load_checkpoint
from gpmt.masks import Masks


def pruned_network() -> nn.Module:
    torch.manual_seed(0)
    network = nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(3, 8, 3, bias=False),
            bn1=nn.BatchNorm2d(8),
            pool=nn.Flatten(),
            fc=nn.Linear(8, 10),
        )
    )
    gpmt.prune_(network, sparsity=0.9, min_kept=5)
    return network


PRUNED = 266  # of 296


def bare(network: nn.Module) -> Any:
    """The dense networks that the scripts start from."""
    return network.state_dict()


def prefixed(network: nn.Module) -> Any:
    """Weights of a DistributedDataParallel, whose names it prefixes."""
    return OrderedDict((f"module.{name}", tensor) for name, tensor in network.state_dict().items())


def pruned(network: nn.Module) -> Any:
    """What the pruning scripts write."""
    return {"state_dict": network.state_dict()}


def finetuned(network: nn.Module) -> Any:
    """What fine-tuning writes after the best epoch, momentum included."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.875, weight_decay=7e-6)
    for parameter in network.parameters():
        optimizer.state[parameter]["momentum_buffer"] = torch.ones_like(parameter)
    return {
        "epoch": 119,
        "arch": "resnet50",
        "state_dict": prefixed(network),
        "best_acc1": torch.tensor(75.44),
        "optimizer": optimizer.state_dict(),
    }


@pytest.fixture(params=["zip", "legacy"])
def legacy(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "legacy")


def save_as_on_a_gpu(held: Any, path: Path, monkeypatch: pytest.MonkeyPatch, *, legacy: bool) -> None:
    """Write a file as a machine with a GPU does: the device of every storage is noted as cuda:0."""
    with monkeypatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        torch.save(held, path, _use_new_zipfile_serialization=not legacy)


@pytest.mark.parametrize("shape", [bare, prefixed, pruned, finetuned])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_every_published_shape_is_read_and_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: Any, device: str, legacy: bool
) -> None:
    network, path = pruned_network(), tmp_path / "model_best.pth.tar"
    if device == "cuda":
        save_as_on_a_gpu(shape(network), path, monkeypatch, legacy=legacy)
    else:
        torch.save(shape(network), path, _use_new_zipfile_serialization=not legacy)
    checkpoint = load_checkpoint(path)
    assert list(checkpoint.state_dict) == list(network.state_dict())
    for name, tensor in network.state_dict().items():
        assert torch.equal(checkpoint.state_dict[name], tensor)
        assert checkpoint.state_dict[name].device.type == "cpu"
    result = CliRunner().invoke(app, ["verify", str(path), "--sparsity", "0.9", "--min-kept", "5", "--json"])
    document = json.loads(result.stdout)
    assert (result.exit_code, document["pruned"]) == (0, PRUNED)
    assert [row["name"] for row in document["tensors"]] == ["conv1.weight", "fc.weight"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_file_saved_on_a_gpu_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, legacy: bool) -> None:
    """What the test above reads could not be read without bringing the tensors to the CPU."""
    save_as_on_a_gpu(finetuned(pruned_network()), tmp_path / "a.pt", monkeypatch, legacy=legacy)
    with pytest.raises(RuntimeError, match="Attempting to deserialize object on a CUDA device"):
        torch.load(tmp_path / "a.pt", weights_only=True)


def test_the_rest_of_a_training_state_survives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_as_on_a_gpu(finetuned(pruned_network()), tmp_path / "a.pth.tar", monkeypatch, legacy=False)
    checkpoint = load_checkpoint(tmp_path / "a.pth.tar")
    assert checkpoint.container is not None
    assert (checkpoint.prefix, checkpoint.other_keys) == (
        "module.",
        ["epoch", "arch", "best_acc1", "optimizer"],
    )
    assert checkpoint.container["best_acc1"] == torch.tensor(75.44)
    buffers = [state["momentum_buffer"] for state in checkpoint.container["optimizer"]["state"].values()]
    assert all(buffer.device.type == "cpu" for buffer in buffers)


def test_a_real_resnet_from_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torchvision = pytest.importorskip("torchvision")
    network = torchvision.models.resnet18(num_classes=5)
    gpmt.prune_(network, sparsity=0.9)
    save_as_on_a_gpu(finetuned(network), tmp_path / "best.pth.tar", monkeypatch, legacy=False)
    checked = gpmt.verify(tmp_path / "best.pth.tar", sparsity=0.9)
    assert checked
    assert len(checked.tensors) == 21  # 20 convolutions, three of them in shortcuts, and the classifier
    assert not {row.name for row in checked.tensors} & {
        name for name, p in network.named_parameters() if p.ndim == 1
    }


class Attack:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return Path.touch, (self.marker,)


def mask_file(path: Path, attack: Attack) -> Path:
    """The scripts' masks: an object array of tensors, one a layer, in the order of the layers."""
    masks = np.empty(3, dtype=object)
    masks[0], masks[1], masks[2] = torch.ones(8, 3, 3, 3), torch.ones(10, 8), attack
    if path.suffix == ".npy":
        np.save(path, masks, allow_pickle=True)
    else:
        path.write_bytes(pickle.dumps(masks))
    return path


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (
            "mask.npy",
            r"mask\.npy is an array of NumPy, such as the mask files of the published scripts, and no weights; ",
        ),
        ("mask.pkl", r"mask\.pkl is a plain pickle \(or cut short\), not a file of torch\.save; "),
    ],
)
def test_the_authors_mask_file_is_never_unpickled(tmp_path: Path, name: str, sentence: str) -> None:
    marker = tmp_path / "marker"
    path = mask_file(tmp_path / name, Attack(marker))
    with pytest.raises(CheckpointError, match=sentence) as refused:
        load_checkpoint(path)
    assert "\n" not in str(refused.value)
    with pytest.raises(
        MaskError, match=rf"{name} is not a readable safetensors file .* reads no pickled ones$"
    ):
        Masks.load(path)
    assert not marker.exists()
    pickle.loads(path.read_bytes()) if name == "mask.pkl" else np.load(path, allow_pickle=True)
    assert marker.exists()
