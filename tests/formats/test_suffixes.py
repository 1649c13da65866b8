from pathlib import Path

import pytest

from gpmt.errors import CheckpointError
from gpmt.formats.suffixes import SUFFIXES, check_format_suffix, check_suffix


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


@pytest.mark.parametrize(
    ("name", "file_format", "sentence"),
    [
        (
            "x.pt",
            "onnx",
            "has the suffix .pt, but onnx is written as .onnx; name it x.onnx, or give another FORMAT",
        ),
        (
            "x.onnx",
            "runtime",
            "has the suffix .onnx, but runtime is written as .program.safetensors; name it x.program.safetensors, or "
            "give another FORMAT",
        ),
        (
            "x.pt",
            "sparse",
            "has the suffix .pt, but sparse is written as .sparse.safetensors; name it x.sparse.",
        ),
        ("x.onnx", "csr", "has the suffix .onnx, but csr is written as .pt; name it x.pt, or give another"),
        ("x.safetensors", "hub", "has the suffix .safetensors, but hub is a folder; give it a name without"),
    ],
)
def test_a_suffix_that_means_another_format_is_refused(name: str, file_format: str, sentence: str):
    with pytest.raises(CheckpointError) as caught:
        check_format_suffix(name, file_format)
    assert str(caught.value).startswith(f"{name} {sentence}")


@pytest.mark.parametrize(
    ("name", "file_format"),
    [
        ("x.onnx", "onnx"),
        ("X.PT2", "program"),
        ("x", "onnx"),
        ("v1.2", "hub"),
        ("x.bin", "runtime"),
        ("x.csr.pt", "csr"),
    ],
)
def test_suffixes_that_say_nothing_else_will_do(name: str, file_format: str):
    check_format_suffix(name, file_format)


def test_a_folder_that_is_missing_is_found_before_anything_is_written(tmp_path: Path):
    with pytest.raises(CheckpointError, match="missing"):
        check_suffix(tmp_path / "missing" / "model.pt")
