"""The fixture is a network that PyTorch's exporter wrote (fixtures/make_onnx.py); onnx itself makes the others."""

import random
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tests.formats.checkpoints import FIXTURES, source
from torch import Tensor

from gpmt.errors import CheckpointError
from gpmt.formats.checkpoint import Checkpoint
from gpmt.formats.importers.weight_files import onnx as importer

onnx = pytest.importorskip("onnx", reason="reads and makes the files")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402


def write(path: Path, initialisers: list[Any], sparse: Any = (), **options: Any) -> Path:
    graph = helper.make_graph([], "graph", [], [], initializer=initialisers, sparse_initializer=list(sparse))
    model = helper.make_model(graph, producer_name="us", opset_imports=[helper.make_opsetid("", 18)])
    onnx.save_model(model, path, **options)
    return path


def read(path: Path) -> Checkpoint:
    return importer.read(source(path))


def known(path: Path) -> bool:
    return importer.recognises(source(path))


def test_what_pytorch_exports() -> None:
    path = FIXTURES / "exported.onnx"
    assert known(path)
    checkpoint = read(path)
    expected = load_file(FIXTURES / "exported_expected.safetensors")
    assert (checkpoint.path, checkpoint.source, checkpoint.masks) == (path, "ONNX", None)
    assert importer.NAME == "ONNX"
    assert checkpoint.metadata["producer"].startswith("pytorch ")
    assert int(checkpoint.metadata["opset"]) >= 18
    for name, tensor in expected.items():
        assert torch.equal(checkpoint.state_dict[name], tensor), name
    # The rest is a shape for Reshape.
    assert {checkpoint.state_dict[name].dtype for name in checkpoint.state_dict if name not in expected} <= {
        torch.int64
    }
    assert (expected["fc.weight"] == 0).sum() > 50
    checkpoint.state_dict["fc.weight"].zero_()
    assert torch.equal(read(path).state_dict["fc.weight"], expected["fc.weight"])


DTYPES = {
    "FLOAT": torch.float32,
    "FLOAT16": torch.float16,
    "BFLOAT16": torch.bfloat16,
    "DOUBLE": torch.float64,
    "INT8": torch.int8,
    "INT16": torch.int16,
    "INT32": torch.int32,
    "INT64": torch.int64,
    "UINT8": torch.uint8,
    "UINT16": torch.uint16,
    "UINT32": torch.uint32,
    "UINT64": torch.uint64,
    "BOOL": torch.bool,
}


def test_any_byte_but_zero_is_true(tmp_path: Path) -> None:
    path = write(tmp_path / "a.onnx", [helper.make_tensor("a", TensorProto.BOOL, [3], b"\2\0\1", raw=True)])
    assert read(path).state_dict["a"].view(torch.uint8).tolist() == [1, 0, 1]


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("raw", [True, False])
def test_types_of_numbers(tmp_path: Path, name: str, raw: bool) -> None:
    numbers = [0.0, 1.0, 0.5, -2.0, 1.0, 3.0] if "FLOAT" in name or name == "DOUBLE" else [0, 1, 1, 0, 1, 1]
    if name.startswith("INT"):
        numbers[2] = -5
    expected = torch.tensor(numbers, dtype=DTYPES[name]).view(2, 3)
    if raw:
        data: Any = expected.view(torch.uint8).numpy().tobytes()
    else:
        data = numbers
    proto = helper.make_tensor("w", getattr(TensorProto, name), [2, 3], data, raw=raw)
    found = read(write(tmp_path / "a.onnx", [proto])).state_dict["w"]
    assert found.dtype == DTYPES[name]
    assert torch.equal(found.to(torch.float64), expected.to(torch.float64))


@given(shape=st.lists(st.integers(0, 4), max_size=4), external=st.booleans(), seed=st.integers(0, 99))
def test_shapes(
    tmp_path_factory: pytest.TempPathFactory, shape: list[int], external: bool, seed: int
) -> None:
    array = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    path = tmp_path_factory.mktemp("onnx") / "a.onnx"
    options = {"save_as_external_data": True, "size_threshold": 0} if external else {}
    write(path, [numpy_helper.from_array(array, "w")], **options)
    found = read(path).state_dict["w"]
    assert found.shape == torch.Size(shape)
    assert torch.equal(found, torch.from_numpy(array))


def test_order_and_names_are_the_files(tmp_path: Path) -> None:
    names = ["onnx::MatMul_7", "b", "a.weight", "/x/y"]
    protos = [numpy_helper.from_array(np.ones(1), name) for name in names]
    assert list(read(write(tmp_path / "a.onnx", protos)).state_dict) == names


def external(**entries: str) -> Any:
    """A tensor of six float32 in another file."""
    proto = TensorProto(
        name="w", data_type=TensorProto.FLOAT, dims=[2, 3], data_location=TensorProto.EXTERNAL
    )
    for key, value in entries.items():
        proto.external_data.add(key=key, value=value)
    return proto


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


def sparse(dims: list[int], indices: Any, values: list[float], name: str = "w") -> Any:
    made = onnx.SparseTensorProto(dims=dims)
    made.values.CopyFrom(numpy_helper.from_array(np.array(values, dtype=np.float32), name))
    made.indices.CopyFrom(numpy_helper.from_array(np.array(indices, dtype=np.int64), ""))
    return made


@given(
    shape=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    seed=st.integers(0, 1000),
    coordinates=st.booleans(),
)
def test_sparse_initialisers(
    tmp_path_factory: pytest.TempPathFactory, shape: list[int], seed: int, coordinates: bool
) -> None:
    rng = np.random.default_rng(seed)
    dense = (rng.standard_normal(shape) * (rng.random(shape) < 0.4)).astype(np.float32)
    indices = np.argwhere(dense) if coordinates else np.flatnonzero(dense)
    proto = sparse(
        shape, indices.reshape(-1, len(shape)) if coordinates else indices, dense[dense != 0].tolist()
    )
    found = read(write(tmp_path_factory.mktemp("onnx") / "a.onnx", [], [proto])).state_dict["w"]
    assert torch.equal(found, torch.from_numpy(dense))
    assert not found[found == 0].signbit().any()


@pytest.mark.parametrize(
    ("proto", "sentence"),
    [
        (
            sparse([2**20, 2**20], [3], [1.0]),
            r"gives the sparse 'w' the shape \[1048576, 1048576\], which is too large",
        ),
        (
            sparse([2**31, 2**31, 2**31], [3], [1.0]),
            "which is too large for so small a file; export it densely$",
        ),
        (sparse([-2, -3], [3], [1.0]), "which is too large"),
        (sparse([], [3], [1.0]), "which is too large"),
        (sparse([2, 3], [6], [1.0]), "has an index outside the sparse 'w'; export it again$"),
        (sparse([2, 3], [-1], [1.0]), "has an index outside"),
        (sparse([2, 3], [[1, 3]], [1.0]), "has an index outside"),
        (sparse([2, 3], [[2, 0]], [1.0]), "has an index outside"),
        (sparse([2, 3], [[0, -1]], [1.0]), "has an index outside"),
        (sparse([2, 3], [1, 2], [1.0]), "has no index for each value of the sparse 'w'"),
        (sparse([2, 3], [[1]], [1.0]), "has no index for each value"),
    ],
    ids=range(11),
)
def test_sparse_initialisers_that_lie(tmp_path: Path, proto: Any, sentence: str) -> None:
    with pytest.raises(CheckpointError, match=rf"a\.onnx {sentence}|a\.onnx gives .*{sentence}"):
        read(write(tmp_path / "a.onnx", [], [proto]))


def test_many_sparse_initialisers_share_one_limit(tmp_path: Path) -> None:
    protos = [sparse([2**22], [3], [1.0], name=str(position)) for position in range(1000)]
    with pytest.raises(CheckpointError, match="which is too large for so small a file"):
        read(write(tmp_path / "a.onnx", [], protos))


def changed(**fields: Any) -> Any:
    proto = helper.make_tensor("w", TensorProto.FLOAT, [2, 3], bytes(24), raw=True)
    for field, value in fields.items():
        if field == "dims":
            proto.dims[:] = value
        else:
            setattr(proto, field, value)
    return proto


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
        CheckpointError, match=r"is an ONNX file without initialisers; export it with its weights$"
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
