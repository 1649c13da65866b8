"""ONNX files that are damaged or claim what is not so, and files that only resemble one."""

import random
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from tests.formats.checkpoints import FIXTURES
from tests.formats.importers.weight_files.onnx_files import (
    TensorProto,
    changed,
    external,
    helper,
    known,
    read,
    write,
    write_constants,
)
from torch import Tensor

import gpmt
from gpmt.errors import CheckpointError


@pytest.mark.parametrize(
    ("proto", "sentence"),
    [
        (
            changed(dims=[2**40, 2**40]),
            r"gives 'w' the shape \[1099511627776, 1099511627776\]; export it again$",
        ),
        (
            changed(dims=[2**40]),
            r"data of another size for 'w' than its shape \[1099511627776\] needs; export it again$",
        ),
        (changed(dims=[-2, -3]), r"gives 'w' the shape \[-2, -3\]"),
        (changed(dims=[-1, 3]), r"gives 'w' the shape \[-1, 3\]"),
        (changed(raw_data=bytes(23)), "data of another size for 'w'"),
        (changed(raw_data=b""), "data of another size for 'w'"),
        (
            changed(data_type=TensorProto.STRING),
            "has 'w' in the ONNX type STRING, which is not read; export the network",
        ),
        (changed(data_type=TensorProto.INT4), "has 'w' in the ONNX type INT4"),
        (changed(data_type=999), "has 'w' in the ONNX type 999"),
        (changed(data_type=0), "has 'w' in the ONNX type UNDEFINED"),
        (changed(name=""), "has an initialiser '' that has no name; export it again$"),
        (TensorProto(name="w", data_type=1, dims=[3], float_data=[1.0]), "data of another size for 'w'"),
    ],
    ids=range(12),
)
def test_tensors_that_lie(tmp_path: Path, proto: Any, sentence: str) -> None:
    with pytest.raises(CheckpointError, match=rf"a\.onnx.* {sentence}") as refused:
        read(write(tmp_path / "a.onnx", [proto]))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("constant", [True, False])
def test_a_name_that_is_not_utf_8(tmp_path: Path, constant: bool) -> None:
    path = tmp_path / "a.onnx"
    if constant:
        write_constants(path, {"a_name": changed()})
    else:
        write(path, [changed(name="a_name")])
    path.write_bytes(path.read_bytes().replace(b"a_name", b"a\xff\xfeame"))
    with pytest.raises(
        CheckpointError,
        match=r"a.onnx has an initialiser b'a\\xff\\xfeame' that has a name that is not UTF-8; export it again$",
    ):
        gpmt.load(path)


def test_other_texts_that_are_not_utf_8(tmp_path: Path) -> None:
    path = write(tmp_path / "a.onnx", [changed()], producer_name="wonder")
    path.write_bytes(path.read_bytes().replace(b"wonder", b"w\xffnder"))
    assert read(path).metadata["producer"] == r"b'w\xffnder'"
    path = write(tmp_path / "a.onnx", [external(location="here.bin")])
    for text in (b"location", b"here.bin"):
        path.write_bytes(path.read_bytes().replace(text, b"\xff" + text[1:]))
        with pytest.raises(CheckpointError, match=r"which is not the name of a file; it is damaged$"):
            read(path)


def test_a_name_twice(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"has an initialiser 'w' that is there twice; export it again$"
    ):
        read(write(tmp_path / "a.onnx", [changed(), changed()]))


def test_bytes_of_bools(tmp_path: Path) -> None:
    proto = helper.make_tensor("w", TensorProto.BOOL, [4], b"\0\x01\x02\xff", raw=True)
    assert read(write(tmp_path / "a.onnx", [proto])).state_dict["w"].tolist() == [False, True, True, True]


def test_files_without_weights(tmp_path: Path) -> None:
    path = write(tmp_path / "a.onnx", [])
    assert known(path)
    with pytest.raises(
        CheckpointError,
        match=r"is an ONNX file without initialisers and constants; export it with its weights$",
    ):
        read(path)
    with pytest.raises(CheckpointError, match=r"none\.onnx cannot be read: No such file or directory; check"):
        read(tmp_path / "none.onnx")


def test_truncation_and_damage_end_in_a_sentence(tmp_path: Path) -> None:
    whole = (FIXTURES / "exported.onnx").read_bytes()
    path, sentences, recognised = tmp_path / "a.onnx", [], 0
    for offset in range(1, len(whole), 41):
        path.write_bytes(whole[:offset])
        recognised += known(path)
        with pytest.raises(CheckpointError):
            read(path)
    assert recognised > 40  # of 45: all that reach into the graph
    rng = random.Random(0)
    for _ in range(500):
        damaged = bytearray(whole)
        for _ in range(3):
            damaged[rng.randrange(len(whole))] = rng.randrange(256)
        path.write_bytes(damaged)
        known(path)
        try:
            read(path)
        except CheckpointError as error:
            sentences.append(str(error))
    assert len(sentences) > 50
    assert not any("\n" in sentence for sentence in sentences)


def make_others(path: Path) -> None:
    state: dict[str, Tensor] = {"a.weight": torch.ones(30, 30)}
    torch.save(state, path / "zip")
    torch.save(state, path / "legacy", _use_new_zipfile_serialization=False)
    save_file(state, path / "safetensors")
    np.save(path / "array", np.ones(3))
    with zipfile.ZipFile(path / "archive", "w") as archive:
        archive.writestr("a", "text")
    (path / "empty").touch()
    (path / "text").write_text("hello world\n" * 100)
    (path / "json").write_text('{"weight_map": {}}')
    (path / "zeros").write_bytes(bytes(1000))
    (path / "version").write_bytes(b"\x08\x07")
    (path / "long").write_bytes(b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")


def test_other_files_are_not_recognised(tmp_path: Path) -> None:
    make_others(tmp_path)
    for path in tmp_path.iterdir():
        assert not known(path), path.name


@given(data=st.binary(max_size=200))
def test_random_bytes_are_not_recognised(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("any") / "a"
    path.write_bytes(b"\x08\x0a" + data)
    if known(path):
        assert b"\x3a" in data  # a graph
