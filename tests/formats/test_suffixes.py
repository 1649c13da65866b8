from pathlib import Path

import pytest

from gpmt.errors import CheckpointError
from gpmt.formats.suffixes import SUFFIXES, check_suffix


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".PT", ".sparse.safetensors"])
def test_known_suffixes_in_a_folder_that_exists(tmp_path: Path, suffix: str):
    check_suffix(tmp_path / f"model{suffix}")


@pytest.mark.parametrize(("name", "shown"), [("model.onnx", ".onnx"), ("model", "(none)")])
def test_other_suffixes_are_refused(tmp_path: Path, name: str, shown: str):
    path = tmp_path / name
    with pytest.raises(CheckpointError) as caught:
        check_suffix(path)
    assert str(caught.value) == (
        f"{path} has the suffix {shown}, but an output must end in .pt, .pth, .th, .tar, .safetensors"
    )


def test_a_folder_that_is_missing_is_found_before_anything_is_written(tmp_path: Path):
    with pytest.raises(CheckpointError, match="missing"):
        check_suffix(tmp_path / "missing" / "model.pt")
