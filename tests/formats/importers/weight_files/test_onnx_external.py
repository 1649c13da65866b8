"""Initialisers whose data are in another file."""

from pathlib import Path

import numpy as np
import pytest
from tests.formats.importers.weight_files.onnx_files import external, numpy_helper, read, write

from gpmt.errors import CheckpointError


def test_external_data_of_the_library(tmp_path: Path) -> None:
    arrays = {f"{i}.weight": np.random.default_rng(i).random((40, 5 + i), np.float32) for i in range(3)}
    protos = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    write(tmp_path / "a.onnx", protos, save_as_external_data=True, location="a.data", size_threshold=0)
    before = (tmp_path / "a.data").read_bytes()
    state_dict = read(tmp_path / "a.onnx").state_dict
    for name, array in arrays.items():
        assert np.array_equal(state_dict[name].numpy(), array)
        state_dict[name].zero_()
    assert (tmp_path / "a.data").read_bytes() == before


@pytest.mark.parametrize("offset", [None, 0, 4, 5, 8])
def test_offsets(tmp_path: Path, offset: int | None) -> None:
    numbers = np.arange(6, dtype=np.float32)
    (tmp_path / "w.bin").write_bytes(bytes(offset or 0) + numbers.tobytes())
    entries = {} if offset is None else {"offset": str(offset), "length": "24"}
    found = read(write(tmp_path / "a.onnx", [external(location="w.bin", **entries)])).state_dict["w"]
    assert np.array_equal(found.numpy(), numbers.reshape(2, 3))


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        (
            {"location": "../w.bin"},
            r"a\.onnx names '\.\./w\.bin', which may lie outside .*; only files inside it are",
        ),
        ({"location": "/etc/passwd"}, "which may lie outside"),
        ({"location": "sub/../../w.bin"}, "which may lie outside"),
        ({}, "names None, which is not the name of a file"),
        ({"location": "none.bin"}, r"names 'none\.bin', which is missing"),
        ({"location": "."}, r"names '\.', which is not a regular file"),
        (
            {"location": "w.bin", "offset": "1"},
            r"looks for 'w' past the end of .*w\.bin; copy or export both again$",
        ),
        ({"location": "w.bin", "offset": "-4"}, "looks for 'w' past the end"),
        ({"location": "w.bin", "offset": "9" * 30}, "looks for 'w' past the end"),
        ({"location": "w.bin", "offset": "9" * 5000}, "looks for 'w' past the end"),
        ({"location": "w.bin", "offset": "x"}, "looks for 'w' past the end"),
        ({"location": "w.bin", "length": "-1"}, "looks for 'w' past the end"),
        (
            {"location": "w.bin", "length": "20"},
            r"data of another size for 'w' than its shape \[2, 3\] needs",
        ),
        ({"location": "empty.bin"}, "looks for 'w' past the end"),
    ],
)
def test_external_data_that_are_elsewhere(tmp_path: Path, entries: dict[str, str], sentence: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for path in (tmp_path / "w.bin", folder / "w.bin"):
        path.write_bytes(bytes(24))
    (folder / "empty.bin").touch()
    with pytest.raises(CheckpointError, match=sentence) as refused:
        read(write(folder / "a.onnx", [external(**entries)]))
    assert "\n" not in str(refused.value)


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "w.bin").write_bytes(bytes(24))
    try:
        (folder / "w.bin").symlink_to(tmp_path / "w.bin")
    except OSError:
        pytest.skip("links cannot be made here")
    with pytest.raises(CheckpointError, match=r"names 'w\.bin', a link that leads out of"):
        read(write(folder / "a.onnx", [external(location="w.bin")]))


def test_parts_that_would_be_copied_over_and_over(tmp_path: Path) -> None:
    with (tmp_path / "w.bin").open("wb") as file:
        file.truncate(2**22 + 1)
    protos = []
    for position in range(40):
        proto = external(location="w.bin", offset="1")
        proto.name, proto.dims[:] = f"{position}", [2**20]
        protos.append(proto)
    with pytest.raises(
        CheckpointError, match=r"a\.onnx reads parts of .*w\.bin over and over; export it again$"
    ):
        read(write(tmp_path / "a.onnx", protos))
