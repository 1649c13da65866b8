"""Files that are damaged, foreign, or would run code: each is an error that says so, and nothing runs."""

import pickle
import random
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tests.formats.checkpoints import WRITERS, Attack, weights

from gpmt.errors import CheckpointError
from gpmt.formats.checkpoint import load_checkpoint


def test_code_beside_the_weights_is_refused_and_does_not_run(tmp_path: Path, write: Any) -> None:
    write({"state_dict": weights(), "x": Attack(tmp_path / "marker")}, tmp_path / "a.pt")
    with pytest.raises(
        CheckpointError, match=r"a\.pt would run code from its pickle \(it needs (posix|nt)\.system"
    ):
        load_checkpoint(tmp_path / "a.pt")
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_truncation_at_any_offset(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.pt"
    if kind == "safetensors":
        save_file(weights(), path)
    else:
        WRITERS[kind]({"state_dict": weights(), "epoch": 3}, path)
    whole = path.read_bytes()
    offsets = {*range(600), *range(600, len(whole), 97), *range(len(whole) - 200, len(whole))}
    for offset in sorted(o for o in offsets if o < len(whole)):
        path.write_bytes(whole[:offset])
        with pytest.raises(CheckpointError, match=r"a\.pt (is|would|holds) .*; "):
            load_checkpoint(path)


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_damage_never_ends_in_another_exception(tmp_path: Path, kind: str) -> None:
    path, rng = tmp_path / "a.pt", random.Random(0)
    if kind == "safetensors":
        save_file(weights(), path)
    else:
        WRITERS[kind](weights(), path)
    whole, refused = path.read_bytes(), 0
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(3):
            damaged[rng.randrange(min(len(whole), 2000))] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            load_checkpoint(path)
        except CheckpointError:
            refused += 1
    assert refused > 50


def make_foreign(path: Path) -> dict[str, str]:
    (path / "empty.pt").touch()
    (path / "text.pt").write_text("hello world, this is not a checkpoint\n" * 50)
    (path / "page.pt").write_text("<!DOCTYPE html><html><body>404 Not Found</body></html>")
    (path / "plain.pkl").write_bytes(pickle.dumps({"a": 1}))
    with tarfile.open(path / "archive.tar", "w") as archive:
        archive.add(path / "text.pt")
    with zipfile.ZipFile(path / "photos.zip", "w") as zipped:
        zipped.writestr("photos/a.txt", "text")
    (path / "folder.pt").mkdir()
    save_file({}, path / "none.safetensors")
    torch.save([1, 2], path / "list.pt")
    torch.save({"epoch": 1, "lr": 0.1}, path / "numbers.pt")
    torch.save({}, path / "nothing.pt")
    return {
        "empty.pt": "is empty; the program that wrote it was probably interrupted, so write it again",
        "text.pt": "is neither a file of torch.save nor of safetensors; save its weights again",
        "page.pt": "is neither a file of torch.save nor of safetensors",
        "plain.pkl": r"is a plain pickle \(or cut short\), not a file of torch.save",
        "archive.tar": "is neither a file of torch.save nor of safetensors",
        "photos.zip": r"is truncated or damaged \(RuntimeError\); copy or download it again",
        "folder.pt": "is a folder; give the checkpoint file inside it",
        "missing.pt": "does not exist; check the path",
        "list.pt/x": "cannot be read: Not a directory; check the path",
        "none.safetensors": "holds no tensors; give a file with weights",
        "list.pt": r"holds no state_dict \(found: list\); put it at the top or under state_dict, model, "
        "model_state_dict",
        "numbers.pt": r"holds no state_dict \(found: epoch, lr\)",
        "nothing.pt": r"holds no state_dict \(found: nothing\)",
    }


def test_foreign_files(tmp_path: Path) -> None:
    for name, message in make_foreign(tmp_path).items():
        with pytest.raises(CheckpointError, match=rf"{name} {message}"):
            load_checkpoint(tmp_path / name)


def test_a_container_that_holds_itself(tmp_path: Path) -> None:
    endless: dict[str, Any] = {"epoch": 1}
    endless["model"] = endless
    torch.save(endless, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="holds no state_dict"):
        load_checkpoint(tmp_path / "a.pt")
