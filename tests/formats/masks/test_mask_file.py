"""The mask file is read strictly: every way in which it can be wrong has its own sentence."""

import json
import struct

import numpy as np
import pytest
import torch
from safetensors import safe_open

from gpmt.errors import CheckpointError, MaskError
from gpmt.formats.masks.mask_file import read_mask_file, write_mask_file

# [3, 7] keeps the weights 1 and 20, [5] keeps all.
PACKED = {
    "a.weight": np.array([0b10, 0, 0b10000], np.uint8),
    "b.weight": np.array([0b11111], np.uint8),
}
SHAPES = {"a.weight": (3, 7), "b.weight": (5,)}


@pytest.fixture
def path(tmp_path):
    write_mask_file(tmp_path / "m.safetensors", PACKED, SHAPES)
    return tmp_path / "m.safetensors"


def rewrite(path, **changes):
    raw = path.read_bytes()
    [length] = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    header["__metadata__"].update(changes)
    new = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(new)) + new + raw[8 + length :])


def test_what_was_written_is_read(path):
    packed, shapes = read_mask_file(path)
    assert shapes == SHAPES
    assert list(packed) == list(PACKED)
    assert all(np.array_equal(packed[name], bits) for name, bits in PACKED.items())


def test_missing(tmp_path):
    with pytest.raises(MaskError, match=r"none\.safetensors: no such file"):
        read_mask_file(tmp_path / "none.safetensors")


def test_cut_off_anywhere(path):
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(MaskError, match=r"m\.safetensors "):
            read_mask_file(path)


def test_a_flipped_bit_in_the_masks(path):
    whole = bytearray(path.read_bytes())
    for offset in range(1, 5):
        flipped = whole.copy()
        flipped[-offset] ^= 1
        path.write_bytes(flipped)
        with pytest.raises(MaskError, match=r"damaged|checksum"):
            read_mask_file(path)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_foreign(path, dtype):
    from safetensors.torch import save_file

    save_file({"w": torch.ones(2, dtype=dtype)}, path)
    with pytest.raises(MaskError, match="holds no gpmt masks"):
        read_mask_file(path)
    save_file({"w": torch.ones(2, dtype=dtype)}, path, metadata={"format": "gpmt-masks", "version": "2"})
    with pytest.raises(
        MaskError, match=r"damaged \(the entry of mask w is not valid\); save the masks again"
    ):
        read_mask_file(path)


def test_a_newer_version(path):
    rewrite(path, version="3")
    with pytest.raises(MaskError, match="mask format version 3, but this gpmt reads version 2"):
        read_mask_file(path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("shape", 3),
        ("shape", [3, -7]),
        ("shape", ["x"]),
        ("shape", [1 << 40, 1 << 40]),
        ("shape", [True, 21]),
        ("kept", "all"),
        ("kept", 10**30),
        ("parameter", 99),
        ("parameter", None),
        ("parameter", "3"),
        ("complement", 0),
    ],
)
def test_wrong_entries(path, field, value):
    entries = json.loads(safe_open(path, framework="pt").metadata()["masks"])
    entries["a.weight"][field] = value
    rewrite(path, masks=json.dumps(entries))
    with pytest.raises(MaskError, match=r"damaged"):
        read_mask_file(path)


@pytest.mark.parametrize("text", ["[]", "{", '{"a.weight": 1}', '{"c.weight": {"shape": [1], "kept": 1}}'])
def test_wrong_metadata(path, text):
    rewrite(path, masks=text)
    with pytest.raises(MaskError, match=r"damaged"):
        read_mask_file(path)


def test_a_name_that_is_there_twice(path):
    text = safe_open(path, framework="pt").metadata()["masks"]
    entry = json.dumps(json.loads(text)["b.weight"])
    rewrite(path, masks=f'{text[:-1]}, "b.weight": {entry}}}')
    with pytest.raises(
        MaskError, match=r"m\.safetensors is damaged \('b\.weight' is there twice\); save the masks again"
    ):
        read_mask_file(path)


def test_a_mask_that_is_not_listed(path):
    entries = json.loads(safe_open(path, framework="pt").metadata()["masks"])
    del entries["b.weight"]
    rewrite(path, masks=json.dumps(entries))
    with pytest.raises(MaskError, match=r"is damaged \(it holds b\.weight, which its list of masks lacks\)"):
        read_mask_file(path)


def test_unwritable(tmp_path):
    with pytest.raises(CheckpointError, match="cannot be written"):
        write_mask_file(tmp_path / "missing" / "m.safetensors", PACKED, SHAPES)
    assert not list(tmp_path.iterdir())
