"""Checkpoints written: in any format, with what lay around the weights, whole or not at all."""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from tests.formats.checkpoints import WRITERS, assert_same, weights
from torch import nn

from gpmt.errors import CheckpointError
from gpmt.formats.checkpoint import Checkpoint, load_checkpoint, save_checkpoint


def test_torch_output_keeps_the_container(tmp_path: Path, write: Any) -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.ones(4, 3)).sum().backward()
    optimizer.step()
    held = {
        "epoch": 12,
        "arch": "resnet20",
        "best_acc1": torch.tensor(91.5),
        "args": argparse.Namespace(lr=0.1, milestones=[1, 2]),
        "best_prec1": np.float64(91.73),
        "correct": np.int64(9173),
        "low": np.float32(0.1),
        "rng": np.arange(6, dtype=np.uint32).reshape(2, 3),
        "optimizer": optimizer.state_dict(),
        "state_dict": model.state_dict(),
    }
    source, out = tmp_path / "model_best.pth.tar", tmp_path / "out.pth"
    write(held, source)
    checkpoint = load_checkpoint(source)
    assert checkpoint.other_keys == [key for key in held if key != "state_dict"]
    checkpoint.state_dict["0.weight"][0] = 0
    save_checkpoint(out, checkpoint)

    with torch.serialization.safe_globals([argparse.Namespace]):
        again = load_checkpoint(out).container
    assert again is not None
    assert list(again) == list(held)
    assert again["args"] == held["args"]
    assert (again["epoch"], again["arch"], again["best_acc1"]) == (12, "resnet20", torch.tensor(91.5))
    assert (again["best_prec1"], again["correct"], again["low"]) == (91.73, 9173, float(np.float32(0.1)))
    assert type(again["best_prec1"]) is float
    momentum = again["optimizer"]["state"][0]["momentum_buffer"]
    assert torch.equal(momentum, optimizer.state_dict()["state"][0]["momentum_buffer"])
    assert again["state_dict"]._metadata == model.state_dict()._metadata
    expected = model.state_dict()
    expected["0.weight"][0] = 0
    assert_same(again["state_dict"], expected)
    model.load_state_dict(again["state_dict"])
    # An array is written as NumPy's own, for readers that know nothing of this package.
    plain = torch.load(out, weights_only=False)
    assert isinstance(plain["rng"], np.ndarray)
    assert plain["rng"].dtype == np.uint32
    np.testing.assert_array_equal(plain["rng"], held["rng"])


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".th", ".tar", ".safetensors", ".PT"])
def test_bare_weights_round_trip(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    save_checkpoint(path, weights())
    assert_same(load_checkpoint(path).state_dict, weights())  # the order too, which safetensors does not keep
    assert path.stat().st_mode & 0o777 == 0o666 & ~current_umask()


def current_umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


@pytest.mark.parametrize("source", ["a.pt", "legacy.pt", "a.safetensors"])
@pytest.mark.parametrize("out", ["out.pt", "out.safetensors"])
def test_tied_tensors_stay_tied(tmp_path: Path, source: str, out: str) -> None:
    shared = torch.randn(5, 3)
    tied = {"embed.weight": shared, "bias": torch.ones(5), "head.weight": shared, "row": shared[1]}
    if source == "a.safetensors":
        save_checkpoint(tmp_path / source, tied)
    else:
        WRITERS["legacy" if source == "legacy.pt" else "zip"](tied, tmp_path / source)
    checkpoint = load_checkpoint(tmp_path / source)
    save_checkpoint(tmp_path / out, checkpoint)
    if out.endswith(".safetensors"):
        assert_same(dict(sorted(load_file(tmp_path / out).items())), dict(sorted(tied.items())))
    state_dict = load_checkpoint(tmp_path / out).state_dict
    assert_same(state_dict, tied)
    assert state_dict["embed.weight"].data_ptr() == state_dict["head.weight"].data_ptr()
    assert state_dict["bias"].data_ptr() != state_dict["head.weight"].data_ptr()


def test_channels_last_and_slices_into_safetensors(tmp_path: Path) -> None:
    whole = torch.randn(6, 4)
    odd = {
        "nhwc": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
        "slice": whole[2:4],
        "transposed": whole.T,
        "empty": torch.empty(0, 3),
    }
    save_checkpoint(tmp_path / "a.safetensors", odd)
    assert_same(load_checkpoint(tmp_path / "a.safetensors").state_dict, odd)


@pytest.mark.parametrize("name", ["a.pt", "a.safetensors"])
def test_output_may_be_the_input(tmp_path: Path, name: str) -> None:
    save_checkpoint(tmp_path / name, weights())
    checkpoint = load_checkpoint(tmp_path / name)
    checkpoint.state_dict["conv.weight"].zero_()
    save_checkpoint(tmp_path / name, checkpoint)
    assert_same(
        load_checkpoint(tmp_path / name).state_dict, weights() | {"conv.weight": torch.zeros(4, 3, 3, 3)}
    )
    assert os.listdir(tmp_path) == [name]


def test_names_removed_and_added_in_memory(tmp_path: Path) -> None:
    torch.save({"module.a": torch.ones(1), "module.b": torch.ones(2)}, tmp_path / "a.pt")
    checkpoint = load_checkpoint(tmp_path / "a.pt")
    del checkpoint.state_dict["a"]
    checkpoint.state_dict["c"] = torch.ones(3)
    save_checkpoint(tmp_path / "a.pt", checkpoint)
    assert list(torch.load(tmp_path / "a.pt")) == ["module.b", "module.c"]


@pytest.mark.parametrize("name", ["out.onnx", "out", "out.pt.gz"])
def test_unknown_output_suffix(tmp_path: Path, name: str) -> None:
    message = r"has the suffix .*, but an output must end in \.pt, \.pth, \.th, \.tar, \.safetensors"
    with pytest.raises(CheckpointError, match=message):
        save_checkpoint(tmp_path / name, weights())
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("suffix", [".pt", pytest.param(".safetensors", marks=pytest.mark.slow)])
def test_no_space_left(tmp_path: Path, suffix: str) -> None:
    """A limit on the size of files stands in for a full disk: both fail in the same system call."""
    code = """
import resource, sys, torch
from gpmt.errors import CheckpointError
from gpmt.formats.checkpoint import save_checkpoint
weights = {f"{i}.weight": torch.ones(100, 100) for i in range(10)}
for limit in (0, 1, 60, 500, 5_000, 39_000, 100_000, 399_000, 400_100):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        save_checkpoint(sys.argv[1], weights)
    except CheckpointError as error:
        print(error)
"""
    path = tmp_path / f"out{suffix}"
    path.write_text("old")
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    sentence = f"{path} cannot be written: no space left in {tmp_path}; free some, or choose another folder"
    assert done.stdout.splitlines() == [sentence] * 9
    assert os.listdir(tmp_path) == [path.name]
    assert path.read_text() == "old"


def test_interrupt_while_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path / "a.pt", weights())
    before = (tmp_path / "a.pt").read_bytes()
    write = torch.save

    def interrupted(obj: Any, path: Any) -> None:
        write(obj, path)
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path / "a.pt", {"x": torch.ones(1)})
    assert (tmp_path / "a.pt").read_bytes() == before
    assert os.listdir(tmp_path) == ["a.pt"]


def test_header_of_a_written_file(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "x", weights(), metadata={"author": "me"})
    save_checkpoint(tmp_path / "a.safetensors", checkpoint)
    with safe_open(tmp_path / "a.safetensors", framework="pt") as file:
        metadata = file.metadata()
    assert (metadata["format"], metadata["author"]) == ("pt", "me")
    assert json.loads(metadata["gpmt"]) == {"names": list(weights()), "tied": {}}
