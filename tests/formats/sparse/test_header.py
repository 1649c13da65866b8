"""Headers that claim what is not so are refused, in a sentence each."""

import json
import os
import subprocess
import sys

import pytest
import torch
from tests.formats.sparse.containers import change, header, rewrite

import gpmt
from gpmt.errors import CheckpointError


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"shape": [1 << 40, 1 << 20]}, r"has a header with the shape \[1099511627776, 1048576\]"),
        (
            {"shape": [1 << 30, 1 << 10]},
            r"claims \d+ of 1,099,511,627,776 weights for conv\.weight, with a mask of",
        ),
        ({"shape": [1 << 24]}, r"claims \d+ of 16,777,216 weights for conv\.weight, with a mask of"),
        ({"shape": [-1, 5]}, "with '-1' for a count"),
        ({"shape": [True, 1152]}, "with 'True' for a count"),
        ({"shape": [16.0, 72]}, "with '16.0' for a count"),
        ({"shape": 5}, "a shape that is not a list of a few numbers"),
        ({"shape": [1] * 65}, "a shape that is not a list of a few numbers"),
        ({"shape": [(1 << 62) - 1] * 64}, "has a header with the shape"),
        ({"shape": [0, 1 << 40, 1 << 40]}, "has a header with the shape"),
        ({"complement": 1}, "with '1' for true or false"),
        ({"masked": "yes"}, "with 'yes' for true or false"),
        ({"error": 10**400}, "header that is not valid"),
        ({"rice": 40}, "Rice parameter is 40"),
        ({"rice": None}, "with 'None' for a count"),
        ({"bytes": 1 << 50}, r"holds U8 \(\d+,\) as conv\.weight:mask where its header needs U8"),
        ({"dtype": "F128"}, "which this gpmt does not know"),
        ({"dtype": "I64"}, r"claims to hold conv\.weight of type I64 as F32"),
        ({"dtype": "F16"}, r"claims to hold conv\.weight of type F16 as F32"),
        ({"crc32": "zz"}, "with 'zz' for a checksum"),
        ({"crc32": "0000000A"}, "with '0000000A' for a checksum"),
        ({"crc32": "+0x0000a"}, "with '\\+0x0000a' for a checksum"),
        ({"error": "0.1"}, "with '0.1' for a number"),
        ({"error": True}, "with 'True' for a number"),
        ({"crc32": "00000000"}, "does not match its checksum"),
        ({"error": -1.0}, r"claims an error of -1\.0"),
        ({"error": 1e999}, "Infinity is not a number of JSON"),
        ({"complement": True}, "damaged"),
    ],
)
def test_an_entry_that_lies(path, entry, message):
    document, data = header(path)
    layout = change(json.loads(document["__metadata__"]["layout"]), "conv.weight", **entry)
    rewrite(path, document, data, layout=layout)
    with pytest.raises(CheckpointError, match=message):
        gpmt.load_sparse(path)


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ("{", "header that is not valid"),
        ("[]", "header that is not valid"),
        ("{}", "header that is not valid"),
        ('{"tensors": {}, "tied": {}, "tensors": {}}', "header that is not valid .*'tensors' is there twice"),
        ('{"tensors": {}, "record": {"loss": NaN}}', "NaN is not a number of JSON"),
        ("[" * 100_000, "header that is not valid"),
        ('{"tensors": []}', "header that is not valid"),
        ('{"tensors": {}}', "does not match its entries"),
        ('{"tensors": {"x": "00000000"}}', "lacks the tensor x"),
        ('{"tensors": {"x": {"shape": [1], "rice": 0, "bytes": 1}}}', "lacks the values or the mask of x"),
        ('{"tensors": {"x": 5}}', "lacks the values or the mask of x"),
    ],
)
def test_a_layout_that_lies(path, layout, message):
    document, data = header(path)
    rewrite(path, document, data, layout=layout)
    with pytest.raises(CheckpointError, match=message):
        gpmt.load_sparse(path)


@pytest.mark.parametrize(
    ("notes", "message"),
    [
        ({"tied": {"x": "nothing"}}, "ties x to nothing, which it does not hold"),
        ({"tied": {"fc.bias": "fc.weight"}}, r"ties fc\.bias to fc\.weight"),
        ({"tied": ["x"]}, "values that are not strings"),
        ({"metadata": {"x": 1}}, "values that are not strings"),
        ({"record": [1]}, "a record that is not a mapping"),
        ({"record": None}, "a record that is not a mapping"),
        ({"tied": None}, "values that are not strings"),
    ],
)
def test_notes_that_lie(path, notes, message):
    document, data = header(path)
    rewrite(path, document, data, layout=json.loads(document["__metadata__"]["layout"]) | notes)
    with pytest.raises(CheckpointError, match=message):
        gpmt.load_sparse(path)


def test_another_version(path):
    document, data = header(path)
    rewrite(path, document, data, version="2")
    with pytest.raises(
        CheckpointError, match="has version 2, but this gpmt reads version 1; use a newer gpmt"
    ):
        gpmt.load_sparse(path)


def test_a_damaged_header(path):
    document, data = header(path)
    document["__metadata__"]["layout"] = document["__metadata__"]["layout"].replace("16", "61", 1)
    rewrite(path, document, data)
    with pytest.raises(CheckpointError, match="has a damaged header"):
        gpmt.load_sparse(path)


@pytest.mark.parametrize(
    ("part", "changes"),
    [
        ("fc.weight", {"dtype": "I32"}),
        ("fc.weight", {"shape": [400, 10]}),
        ("fc.bias", {"shape": [2, 5]}),
        ("bn.weight", {"dtype": "U32"}),
        ("conv.weight:values", {"dtype": "I32"}),
    ],
)
def test_types_and_shapes_are_covered_by_a_checksum(path, part, changes):
    """Nothing but the container's own header says them, and the bytes fit."""
    document, data = header(path)
    document[part] |= changes
    rewrite(path, document, data)
    message = r"m\.sparse\.safetensors has damaged types or shapes \(their checksum does not match\); copy or"
    with pytest.raises(CheckpointError, match=message):
        gpmt.load_sparse(path)
    del document["__metadata__"]["entries_crc32"]  # as in files written before there was one
    rewrite(path, document, data)
    gpmt.load_sparse(path)


def test_what_is_unknown_is_ignored(path):
    document, data = header(path)
    layout = change(json.loads(document["__metadata__"]["layout"]), "conv.weight", new=[1])
    rewrite(path, document, data, layout=layout | {"future": {"x": 1}}, note="new")
    assert list(gpmt.load_sparse(path)) == list(layout["tensors"])


@pytest.mark.slow
def test_a_small_file_that_claims_a_terabyte_is_refused_at_once(tmp_path):
    path = tmp_path / "bomb.sparse.safetensors"
    gpmt.save_sparse({"w": torch.zeros(1000, 1000)}, path)
    document, data = header(path)
    layout = change(json.loads(document["__metadata__"]["layout"]), "w", shape=[1 << 20, 1 << 18])
    rewrite(path, document, data, layout=layout)
    assert os.path.getsize(path) < 1024
    script = """
import resource, sys
import gpmt
from gpmt.errors import CheckpointError
gpmt.load_sparse
resource.setrlimit(resource.RLIMIT_AS, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 + (8 << 30),) * 2)
try:
    gpmt.load_sparse(sys.argv[1])
except CheckpointError as error:
    print(error)
"""
    result = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, timeout=60)
    assert "of 274,877,906,944 weights for w, with a mask of 128 bytes" in result.stdout
    assert not result.stderr
