"""Files of torch.save and safetensors, read."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tests.formats.checkpoints import assert_same, weights
from torch import nn

from gpmt.formats.checkpoint import load_checkpoint, save_checkpoint


@pytest.mark.parametrize(
    "name", ["a.pt", "a.pth", "a.th", "model_best.pth.tar", "a.safetensors", "a.bin", "a"]
)
def test_content_decides_the_format(tmp_path: Path, write: Any, name: str) -> None:
    write(weights(), tmp_path / name)
    assert_same(load_checkpoint(tmp_path / name).state_dict, weights())


@pytest.mark.parametrize("name", ["a.safetensors", "a.pt", "a.tar"])
def test_safetensors_under_any_name(tmp_path: Path, name: str) -> None:
    save_file(weights(), tmp_path / name, metadata={"format": "pt", "author": "me"})
    checkpoint = load_checkpoint(str(tmp_path / name))
    assert checkpoint.metadata == {"format": "pt", "author": "me"}
    assert checkpoint.container is None
    assert_same(dict(sorted(checkpoint.state_dict.items())), dict(sorted(weights().items())))


@pytest.mark.parametrize(
    ("wrap", "key"),
    [
        (lambda w: w, None),
        (lambda w: {"state_dict": w, "epoch": 3}, "state_dict"),
        (lambda w: {"epoch": 3, "model": w, "loss": torch.tensor(0.5)}, "model"),
        (lambda w: {"model_state_dict": OrderedDict(w)}, "model_state_dict"),
        (lambda w: {"model": {"state_dict": w, "arch": "resnet20"}}, "model.state_dict"),
        (lambda w: {"model": "resnet20", "model_state_dict": w}, "model_state_dict"),
    ],
)
def test_finds_the_weights(tmp_path: Path, write: Any, wrap: Any, key: str | None) -> None:
    path = tmp_path / "a.pt"
    write(wrap(weights()), path)
    checkpoint = load_checkpoint(path)
    assert checkpoint.key == key
    assert (checkpoint.container is None) == (key is None)
    assert_same(checkpoint.state_dict, weights())


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "_orig_mod.module.", "module.module._orig_mod."])
def test_prefix_is_stripped_and_comes_back(tmp_path: Path, write: Any, prefix: str) -> None:
    path = tmp_path / "a.pt"
    prefixed = {prefix + name: tensor for name, tensor in weights().items()}
    write({"state_dict": prefixed, "epoch": 1}, path)
    checkpoint = load_checkpoint(path)
    assert checkpoint.prefix == prefix
    assert_same(checkpoint.state_dict, weights())
    save_checkpoint(path, checkpoint)
    assert_same(torch.load(path)["state_dict"], prefixed)


def test_prefix_must_be_on_all_names(tmp_path: Path) -> None:
    averaged = {"n_averaged": torch.tensor(3), "module.weight": torch.ones(2, 2)}
    torch.save(averaged, tmp_path / "a.pt")
    checkpoint = load_checkpoint(tmp_path / "a.pt")
    assert checkpoint.prefix == ""
    assert list(checkpoint.state_dict) == list(averaged)


def test_entries_that_are_not_tensors_stay(tmp_path: Path) -> None:
    torch.save({"module.a": torch.ones(2), "module._extra_state": {"scale": 2.0}}, tmp_path / "a.pt")
    checkpoint = load_checkpoint(tmp_path / "a.pt")
    assert list(checkpoint.state_dict) == ["a"]
    save_checkpoint(tmp_path / "b.pt", checkpoint)
    assert torch.load(tmp_path / "b.pt")["module._extra_state"] == {"scale": 2.0}


def test_parameters_come_as_plain_tensors(tmp_path: Path) -> None:
    torch.save(dict(nn.Linear(3, 2).named_parameters()), tmp_path / "a.pt")
    tensor = load_checkpoint(tmp_path / "a.pt").state_dict["weight"]
    assert not tensor.requires_grad
    tensor.zero_()


def test_tied_names_that_another_program_changed_come_apart(tmp_path: Path) -> None:
    shared = torch.randn(5, 3)
    save_checkpoint(tmp_path / "a.safetensors", {"a": shared, "b": shared})
    with safe_open(tmp_path / "a.safetensors", framework="pt") as file:
        metadata = file.metadata()
    save_file({"a": shared, "b": shared + 1}, tmp_path / "a.safetensors", metadata=metadata)
    state_dict = load_checkpoint(tmp_path / "a.safetensors").state_dict
    assert torch.equal(state_dict["b"], shared + 1)


@pytest.mark.parametrize(
    "note",
    [
        "",
        "7",
        "[]",
        "{}",
        '{"names": 3, "tied": 4}',
        '{"names": ["x"], "tied": {"a": "x"}}',
        '{"names": ["a"], "tied": {"a": ["x"]}}',
        '{"names": ["a"], "tied": [[["a"], "a"]]}',
        "[" * 200_000,
    ],
    ids=lambda note: note[:40],
)
def test_a_foreign_note_in_the_header_is_ignored(tmp_path: Path, note: str) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "a.safetensors", metadata={"gpmt": note})
    assert_same(load_checkpoint(tmp_path / "a.safetensors").state_dict, {"a": torch.ones(2)})


@pytest.mark.parametrize("other", [torch.float8_e4m3fn, torch.int32])
def test_tied_names_of_any_type(tmp_path: Path, other: torch.dtype) -> None:
    shared = torch.ones(5, 3).to(other)
    save_checkpoint(tmp_path / "a.safetensors", {"a": shared, "b": shared})
    state_dict = load_checkpoint(tmp_path / "a.safetensors").state_dict
    assert state_dict["a"].data_ptr() == state_dict["b"].data_ptr()
    with safe_open(tmp_path / "a.safetensors", framework="pt") as file:
        metadata = file.metadata()
    save_file({"a": shared, "b": torch.ones(5, 3)}, tmp_path / "a.safetensors", metadata=metadata)
    state_dict = load_checkpoint(tmp_path / "a.safetensors").state_dict
    assert [state_dict["a"].dtype, state_dict["b"].dtype] == [other, torch.float32]


def test_reading_does_not_change_the_file(tmp_path: Path) -> None:
    for name in ("a.pt", "a.safetensors"):
        save_checkpoint(tmp_path / name, weights())
        before = (tmp_path / name).read_bytes()
        for tensor in load_checkpoint(tmp_path / name).state_dict.values():
            tensor.zero_()
        assert (tmp_path / name).read_bytes() == before
