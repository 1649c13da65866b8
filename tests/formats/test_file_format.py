"""Formats by first bytes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tests.formats.checkpoints import WRITERS, weights

from gpmt.errors import CheckpointError
from gpmt.formats.file_format import format_of, read_head, weights_format

SENTENCES = {
    "array": r"array is an array of NumPy, .* give the weights they belong to: gpmt convert",
    "empty": r"empty is empty; the program that wrote it was probably interrupted",
    "text": r"text is neither a file of torch\.save nor of safetensors; save its weights again",
    "pickle": r"pickle is a plain pickle \(or cut short\), not a file of torch\.save; save its weights again",
    "folder": r"folder is a folder; give the checkpoint file inside it$",
    "none": r"none does not exist; check the path$",
}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for name, write in WRITERS.items():
        write(weights(), tmp_path / name)
    save_file(weights(), tmp_path / "safetensors")
    with (tmp_path / "array").open("wb") as file:
        np.save(file, np.ones(3))
    (tmp_path / "empty").touch()
    (tmp_path / "text").write_text("hello world")
    (tmp_path / "pickle").write_bytes(b"\x80\x04]\x94.")
    (tmp_path / "folder").mkdir()
    return tmp_path


@pytest.mark.parametrize("name", ["zip", "legacy", "safetensors"])
def test_files_that_may_hold_weights(files: Path, name: Any) -> None:
    assert format_of(read_head(files / name)) == weights_format(files / name) == name


@pytest.mark.parametrize("name", SENTENCES)
def test_other_files_have_a_sentence_each(files: Path, name: str) -> None:
    with pytest.raises(CheckpointError, match=SENTENCES[name]):
        weights_format(files / name)


def test_a_header_of_any_length_is_not_believed() -> None:
    assert format_of((2**27 - 1).to_bytes(8, "little") + b"{") == "safetensors"
    assert format_of((2**27).to_bytes(8, "little") + b"{") is None
    assert format_of(bytes(8)) is None
    assert format_of(b"\x93NUMPY") == "numpy"


def test_only_the_head_is_read(tmp_path: Path) -> None:
    torch.save(torch.ones(10_000), tmp_path / "a.pt")
    assert len(read_head(tmp_path / "a.pt")) == 512
