"""A source tells what a file is by its content, and reads each part of it once."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tests.formats.checkpoints import assert_same, weights

import gpmt
from gpmt.errors import CheckpointError
from gpmt.formats.importers.source import Source


@pytest.mark.parametrize("part", ["head", "format", "content", "checkpoint"])
def test_each_part_is_read_once(tmp_path: Path, write: Any, part: str) -> None:
    write({"state_dict": weights()}, tmp_path / "a.pt")
    file = Source(tmp_path / "a.pt")
    first = getattr(file, part)
    (tmp_path / "a.pt").unlink()
    assert getattr(file, part) is first


def test_nothing_is_read_before_it_is_asked_for(tmp_path: Path) -> None:
    file = Source(tmp_path / "a.pt")
    assert file.weights == {}
    assert not file.is_hub_folder
    torch.save(weights(), tmp_path / "a.pt")
    assert_same(file.checkpoint.state_dict, weights())


def test_the_content_decides_the_format(tmp_path: Path) -> None:
    torch.save(weights(), tmp_path / "a.safetensors")
    torch.save(weights(), tmp_path / "b", _use_new_zipfile_serialization=False)
    save_file(weights(), tmp_path / "c.pt")
    (tmp_path / "d.pt").write_bytes(b"\x93NUMPY\x01\x00")
    (tmp_path / "e.pt").write_bytes(b"")
    files = [Source(path) for path in sorted(tmp_path.iterdir())]
    assert [file.format for file in files] == ["zip", "legacy", "safetensors", "numpy", None]
    assert [file.is_torch_file for file in files] == [True, True, False, False, False]
    assert len(files[0].head) == 512


def test_a_folder_and_its_index_are_hub_folders_without_a_format(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "model.safetensors.index.json"):
        assert Source(path).is_hub_folder
        assert Source(path).format is None
        assert not Source(path).is_torch_file


@pytest.mark.parametrize("part", ["head", "format", "content", "checkpoint"])
def test_a_missing_file_is_named_by_each_part(tmp_path: Path, part: str) -> None:
    with pytest.raises(CheckpointError, match=r"none\.pt does not exist; check the path"):
        getattr(Source(tmp_path / "none.pt"), part)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty; the program that wrote it"),
        (b"hello", "is neither a file of torch.save nor of safetensors"),
        (b"\x93NUMPY\x01\x00", "is an array of NumPy"),
        (b"\x80\x04.", "is a plain pickle"),
    ],
)
def test_a_file_without_weights_says_what_it_is(tmp_path: Path, content: bytes, sentence: str) -> None:
    (tmp_path / "odd").write_bytes(content)
    with pytest.raises(CheckpointError, match=f"odd {sentence}"):
        _ = Source(tmp_path / "odd").checkpoint


def test_damaged_tensors_are_left_out_where_asked(tmp_path: Path) -> None:
    path = tmp_path / "a.sparse.safetensors"
    gpmt.save_sparse({"a": torch.eye(40), "b": torch.ones(3)}, path)
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    with pytest.raises(CheckpointError, match=r"does not match its checksum"):
        _ = Source(path).checkpoint
    checkpoint = Source(path, skip_bad=True).checkpoint
    assert len(checkpoint.state_dict) == len(checkpoint.damaged) == 1


def test_metadata_are_those_of_safetensors_alone(tmp_path: Path) -> None:
    save_file(weights(), tmp_path / "a.safetensors", metadata={"epoch": "3"})
    assert Source(tmp_path / "a.safetensors").metadata == {"epoch": "3"}
    save_file(weights(), tmp_path / "b.safetensors")
    assert Source(tmp_path / "b.safetensors").metadata == {}
    whole = (tmp_path / "a.safetensors").read_bytes()
    (tmp_path / "c.safetensors").write_bytes(whole[:-1])
    torch.save(weights(), tmp_path / "d.pt")
    for name in ("c.safetensors", "d.pt", "."):
        assert Source(tmp_path / name).metadata == {}
