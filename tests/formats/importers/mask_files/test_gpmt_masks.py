"""Masks of gpmt as an importer reads them."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tests.formats.checkpoints import source

import gpmt
from gpmt.errors import CheckpointError, MaskError
from gpmt.formats.checkpoint import load_checkpoint
from gpmt.formats.importers.mask_files import gpmt_masks
from gpmt.formats.load import holds_masks

MASKS = gpmt.Masks.from_dense({"a.weight": torch.eye(3, dtype=torch.bool)})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    MASKS.save(tmp_path / "masks.safetensors")
    return tmp_path / "masks.safetensors"


def test_masks_are_read_for_their_weights(path: Path) -> None:
    assert gpmt_masks.recognises(source(path))
    assert gpmt_masks.read(source(path, {"a.weight": torch.ones(3, 3)})) == MASKS
    with pytest.raises(
        MaskError, match=r"masks\.safetensors: a\.weight has shape \[2, 2\], but its mask has"
    ):
        gpmt_masks.read(source(path, {"a.weight": torch.ones(2, 2)}))


def test_whether_a_file_holds_masks(path: Path, tmp_path: Path) -> None:
    assert holds_masks(path)
    save_file({"a.weight": torch.ones(3, 3)}, tmp_path / "weights.safetensors")
    (tmp_path / "empty").touch()
    for name in ("weights.safetensors", "empty", "."):
        assert not holds_masks(tmp_path / name), name
    with pytest.raises(CheckpointError, match="none does not exist; check the path"):
        holds_masks(tmp_path / "none")


def test_masks_are_never_taken_for_weights(path: Path) -> None:
    sentence = (
        r"masks\.safetensors holds masks alone \(of gpmt\), and no weights; give the weights that they belong"
    )
    with pytest.raises(MaskError, match=sentence):
        load_checkpoint(path)
    with pytest.raises(MaskError, match=sentence):
        gpmt.load(path.parent)  # a folder with one safetensors file
