"""The test vectors: gpmt reads and writes these bytes, and so does a reader written from docs/format.md alone."""

import json
import math
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from tests.formats.checkpoints import assert_same, bits
from tests.formats.sparse import make_vectors, oracle, page_reader
from tests.formats.sparse.make_vectors import FOLDER, MASKS, SPARSE, expected, held
from tests.formats.sparse.networks import sparse
from tests.formats.sparse.refused_vectors import HEADERS, TENSORS, File
from tests.formats.sparse.refused_vectors import MASKS as REFUSED_MASKS

import gpmt
from gpmt.errors import CheckpointError, MaskError
from gpmt.formats.sparse.types import CODES
from gpmt.masks import Masks

SPARSE_FILES = sorted(FOLDER.glob(f"*{SPARSE}")) + sorted((FOLDER / "old").glob(f"*{SPARSE}"))
MASK_FILES = sorted(FOLDER.glob(f"*{MASKS}")) + sorted((FOLDER / "old").glob(f"*{MASKS}"))
REFUSED = sorted((FOLDER / "refused").iterdir())


def name_of(path):
    return f"{path.parent.name}/{path.name}".removeprefix("vectors/")


def by_page(path):
    """Return what the page's reader says, in the form of `described`."""
    if path.name.endswith(MASKS):
        masks, structure = page_reader.read_masks(path)
        assert structure
        return {name: ("BOOL", shape, bytes(mask)) for name, (shape, mask) in masks.items()}
    return page_reader.read(path)


def described(tensors):
    return {
        name: (CODES[tensor.dtype], list(tensor.shape), bits(tensor).numpy().tobytes())
        for name, tensor in tensors.items()
    }


@pytest.mark.parametrize("path", SPARSE_FILES + MASK_FILES, ids=name_of)
def test_vectors_hold_what_is_expected(path):
    tensors = held(path)
    given_tensors = load_file(expected(path))
    assert_same(tensors, {name: given_tensors[name] for name in tensors})
    assert tensors.keys() == given_tensors.keys()
    by_another = by_page(path)
    assert by_another == described(tensors)
    assert list(by_another) == list(tensors)


@pytest.mark.parametrize("name", make_vectors.sparse_files())
def test_the_writer_writes_these_bytes(tmp_path, name):
    state, options = make_vectors.sparse_files()[name]
    make_vectors.save(tmp_path / "again", state, **options)
    assert (tmp_path / "again").read_bytes() == (FOLDER / f"{name}{SPARSE}").read_bytes()
    if "values" not in options:
        assert_same(held(FOLDER / f"{name}{SPARSE}"), state)


@pytest.mark.parametrize("name", make_vectors.mask_files())
def test_the_writer_of_masks_writes_these_bytes(tmp_path, name):
    masks = make_vectors.mask_files()[name]
    Masks.from_dense(masks).save(tmp_path / "again")
    for old, new in zip(taken_apart(FOLDER / f"{name}{MASKS}"), taken_apart(tmp_path / "again"), strict=True):
        assert old == new
    assert_same(held(FOLDER / f"{name}{MASKS}"), masks)


def taken_apart(path):
    file = File(path)
    return file.metadata, file.masks, file.data


def test_old_files_have_no_checksum_of_types_and_new_ones_have():
    for path in SPARSE_FILES:
        assert ("entries_crc32" in File(path).metadata) == (path.parent == FOLDER)


def test_the_vectors_are_all_there_and_all_described():
    text = (FOLDER / "README.md").read_text()
    named = {name for name in re.findall(r"`([\w-]+)`", text) if name != "entries_crc32"}
    files = {path.name for path in SPARSE_FILES + MASK_FILES + REFUSED}
    assert {name.removesuffix(SPARSE).removesuffix(MASKS) for name in files} == named
    assert {path.name for path in SPARSE_FILES} == {f"{name}{SPARSE}" for name in make_vectors.sparse_files()}
    assert {path.name for path in MASK_FILES} == {f"{name}{MASKS}" for name in make_vectors.mask_files()}
    refused = {f"{name}{SPARSE}" for name in HEADERS | TENSORS} | {f"{name}{MASKS}" for name in REFUSED_MASKS}
    assert {path.name for path in REFUSED} == refused


def test_the_vectors_have_in_them_what_they_are_for():
    paths = [path for path in SPARSE_FILES if path.parent == FOLDER]
    layouts = {path.name.removesuffix(SPARSE): File(path).layout["tensors"] for path in paths}
    assert layouts["complement"]["w"]["complement"]
    assert layouts["blocks"]["w"]["shape"] == [65_543]
    assert (layouts["empty"]["none"]["shape"], layouts["empty"]["none"]["bytes"]) == ([0, 3], 0)
    assert all(isinstance(value, str) for value in layouts["dense"].values())
    assert all(isinstance(value, dict) for value in layouts["coded"].values())
    assert {entry.get("dtype") for entry in layouts["int8"].values()} == {"F64", "F32", "F16", "BF16", None}
    coded = [value for tensors in layouts.values() for value in tensors.values() if isinstance(value, dict)]
    assert len({value["rice"] for value in coded}) > 5


def test_a_fused_product_and_sum_would_be_seen(monkeypatch):
    def fused(code, smallest, step):
        magnitude = page_reader.as_float32(smallest + (abs(code) - 1) * step)
        return -magnitude if code < 0 else magnitude

    right = page_reader.read(FOLDER / f"int8{SPARSE}")
    monkeypatch.setattr(page_reader, "eight_bits", fused)
    assert page_reader.read(FOLDER / f"int8{SPARSE}")["float32"] != right["float32"]


@pytest.mark.parametrize("path", REFUSED, ids=lambda path: path.name)
def test_vectors_that_must_be_refused(path):
    with pytest.raises(page_reader.Refused):
        by_page(path)
    with pytest.raises((CheckpointError, MaskError), match=re.escape(path.name)):
        held(path)
    if path.name.endswith(SPARSE) and path.name.removesuffix(SPARSE) in TENSORS:
        assert oracle.repair(path.read_bytes()) is not None


@settings(max_examples=60)
@given(
    shapes=st.lists(st.lists(st.integers(0, 30), max_size=3), min_size=1, max_size=3),
    density=st.floats(0, 1),
    dtype=st.sampled_from(make_vectors.ALL_DTYPES[:4]),
    values=st.sampled_from(["exact", "fp16", "bf16", "int8"]),
    masked=st.booleans(),
    signs=st.sampled_from(["drop", "keep"]),
)
def test_both_readers_agree_on_what_is_written(
    tmp_path_factory, shapes, density, dtype, values, masked, signs
):
    path = tmp_path_factory.mktemp("any") / "a.sparse.safetensors"
    state = {f"{i}": sparse(shape, density, dtype, seed=i) for i, shape in enumerate(shapes)}
    masks = Masks.from_dense({name: tensor != 0 for name, tensor in state.items()}) if masked else None
    gpmt.save_sparse(state, path, values=values, masks=masks, signed_zeros=signs if masks is None else "drop")
    assert page_reader.read(path) == described(gpmt.load_sparse(path))
    if masks is not None:
        masks.save(path.with_name("masks.safetensors"))
        assert {
            name: mask
            for name, (_, mask) in page_reader.read_masks(path.with_name("masks.safetensors"))[0].items()
        } == {name: masks[name].flatten().tolist() for name in masks}


VALUES = [
    0,
    1,
    2,
    5,
    16,
    17,
    -1,
    2.0,
    0.5,
    True,
    False,
    None,
    "F16",
    "F32",
    [3, 4],
    [4, 3],
    [12],
    [],
    {},
    {"v": "w"},
    "w",
]
KEYS = ["shape", "rice", "bytes", "crc32", "complement", "dtype", "error", "masked", "new"]


@settings(max_examples=200)
@given(st.data())
def test_both_readers_refuse_the_same_changes(tmp_path_factory, data):
    """A bit of the data changed, an entry's type or shape, or a value of the layout, under checksums that fit."""
    names = ("example", "int8", "complement", "masked", "notes")
    source = data.draw(st.sampled_from([path for path in SPARSE_FILES if path.name.split(".")[0] in names]))
    file = File(source)
    part = data.draw(st.sampled_from([name for name in file.data if file.data[name]]))
    entries = [entry for entry in file.layout["tensors"].values() if isinstance(entry, dict)]
    match data.draw(st.sampled_from(["bit", "type", "shape", "tensor", "layout"])):
        case "bit":
            content = bytearray(file.data[part])
            bit = data.draw(st.integers(0, 8 * min(len(content), 400) - 1))
            content[bit // 8] ^= 1 << bit % 8
            file.data[part] = bytes(content)
        case "type":
            size = page_reader.SIZES[file.header[part]["dtype"]]
            alike = [dtype for dtype, width in page_reader.SIZES.items() if width == size]
            file.header[part]["dtype"] = data.draw(st.sampled_from(alike))
        case "shape":
            shape = file.header[part]["shape"]
            file.header[part]["shape"] = data.draw(
                st.sampled_from([shape[::-1], [*shape, 1], [1, *shape], [math.prod(shape)]])
            )
        case "tensor":
            data.draw(st.sampled_from(entries))[data.draw(st.sampled_from(KEYS))] = data.draw(
                st.sampled_from(VALUES)
            )
        case "layout":
            key = data.draw(st.sampled_from(["tied", "metadata", "record", "new"]))
            file.layout[key] = data.draw(st.sampled_from(VALUES))
    file.sign()
    path = tmp_path_factory.mktemp("changed") / "a.sparse.safetensors"
    file.save(path)
    assert outcome(page_reader.read, path) == outcome(lambda path: described(gpmt.load_sparse(path)), path)


def outcome(read, path):
    """Return the bits that a reader finds, or None where it refuses the file."""
    try:
        return read(path)
    except (page_reader.Refused, CheckpointError):
        return None


def test_the_structure_of_masks_can_be_computed_from_the_text(tmp_path):
    names = ["a.weight", "é", '"\\\n\t\x7f\x01', "\U0001f600", "10"]
    masks = Masks.from_dense({name: torch.ones(i, 2) > 0 for i, name in enumerate(names)})
    masks.save(tmp_path / "m.safetensors")
    assert page_reader.read_masks(tmp_path / "m.safetensors")[1]
    assert json.loads(File(tmp_path / "m.safetensors").metadata["masks"]).keys() == set(names)
