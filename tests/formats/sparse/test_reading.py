"""Reading parts of a sparse file, and refusing what is wrong with it."""

import json
import os
import struct
import subprocess
import sys
import time
import zlib
from functools import partial

import pytest
import torch
from tests.formats.checkpoints import assert_same
from tests.formats.sparse.networks import sparse, state

import gpmt
from gpmt.errors import CheckpointError


@pytest.fixture
def path(tmp_path):
    gpmt.save_sparse(state(), tmp_path / "m.sparse.safetensors")
    return tmp_path / "m.sparse.safetensors"


def header(path):
    raw = path.read_bytes()
    [length] = struct.unpack("<Q", raw[:8])
    return json.loads(raw[8 : 8 + length]), raw[8 + length :]


def rewrite(path, document, data, *, layout=None, **metadata):
    """Write a container anew; a changed layout gets the right checksum, so that what is in it is looked at."""
    if layout is not None:
        text = layout if isinstance(layout, str) else json.dumps(layout)
        metadata |= {"layout": text, "crc32": f"{zlib.crc32(text.encode()):08x}"}
    document["__metadata__"].update(metadata)
    text = json.dumps(document).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def test_single_tensors_and_their_facts(path):
    weights = state()
    with gpmt.SparseFile(path) as file:
        assert list(file) == list(weights)
        assert len(file) == 5
        for name, tensor in weights.items():
            assert (file.shape(name), file.dtype(name)) == (tuple(tensor.shape), tensor.dtype)
            assert torch.equal(file[name], tensor)
        assert file.kept("conv.weight") == int(weights["conv.weight"].count_nonzero())
        assert file.kept("bn.weight") == 16
        assert torch.equal(file.mask("conv.weight"), weights["conv.weight"] != 0)
        assert file.mask("bn.weight") is None
        assert "fc.bias" in file
        with pytest.raises(
            CheckpointError, match="holds no tensor nope; see gpmt inspect for those it holds"
        ):
            file["nope"]
    with pytest.raises(CheckpointError, match="is closed; open it again"):
        file["fc.bias"]


def test_only_what_is_asked_for_is_read(path):
    damage(path, "fc.weight")
    assert list(gpmt.load_sparse(path, names=["fc.bias", "conv.weight"])) == ["fc.bias", "conv.weight"]


def test_results_do_not_depend_on_threads(tmp_path):
    weights = {f"{i}": sparse((300, 1000 + i), 0.1 * (i % 10), seed=i) for i in range(12)}
    gpmt.save_sparse(weights, tmp_path / "a.sparse.safetensors")
    with gpmt.SparseFile(tmp_path / "a.sparse.safetensors") as file:
        for threads in (1, 2, 5):
            assert_same(file.load(threads=threads), weights)


def test_results_can_be_changed_and_outlive_the_file(path):
    weights = gpmt.load_sparse(path)
    path.write_bytes(b"")
    for tensor in weights.values():
        tensor += 1
    assert_same(weights, {name: tensor + 1 for name, tensor in state().items()})


def test_large_tensors_in_several_stretches(tmp_path):
    weights = {"w": sparse((3, 1 << 20), 0.03), "v": sparse((3, 1 << 20), 0.97)}
    gpmt.save_sparse(weights, tmp_path / "a.sparse.safetensors", values="bf16")
    loaded = gpmt.load_sparse(tmp_path / "a.sparse.safetensors")
    assert torch.equal(loaded["w"], weights["w"].bfloat16().float())
    assert torch.equal(loaded["v"] != 0, weights["v"] != 0)


@pytest.mark.parametrize("part", ["conv.weight:values", "conv.weight:mask"])
def test_a_mask_alone_is_checked_too(path, part):
    damage(path, part)
    with (
        gpmt.SparseFile(path) as file,
        pytest.raises(CheckpointError, match=r"conv\.weight does not match its"),
    ):
        file.mask("conv.weight")


def test_after_an_error_no_further_job_is_begun():
    begun = []

    def fail():
        raise CheckpointError("the first")

    def wait(job):
        begun.append(job)
        time.sleep(0.1)

    with pytest.raises(CheckpointError, match="the first"):
        run([fail, *(partial(wait, job) for job in range(20))], 2)
    assert len(begun) <= 2


def damage(path, part):
    document, data = header(path)
    start = document[part]["data_offsets"][0]
    broken = bytearray(data)
    broken[start] ^= 1
    rewrite(path, document, bytes(broken))


@pytest.mark.parametrize("part", ["fc.weight", "conv.weight:values", "conv.weight:mask"])
def test_damage_names_the_tensor_and_the_others_can_be_read(path, part):
    damage(path, part)
    name = part.split(":")[0]
    with pytest.raises(CheckpointError, match=rf"m\.sparse\.safetensors: {name} does not match its checksum"):
        gpmt.load_sparse(path)
    others = gpmt.load_sparse(path, skip_bad=True)
    assert_same(others, {key: tensor for key, tensor in state().items() if key != name})
    with gpmt.SparseFile(path) as file:
        assert list(file.damaged()) == [name]


def test_damage_to_a_tied_tensor_is_damage_to_all_its_names(tmp_path):
    weights, path = sparse((60, 60)), tmp_path / "a.sparse.safetensors"
    gpmt.save_sparse({"a": weights, "b": weights, "c": torch.ones(2)}, path)
    damage(path, "a:mask")
    assert list(gpmt.load_sparse(path, skip_bad=True)) == ["c"]


def small(path):
    weights = {"a.weight": sparse((30, 20), 0.05), "b": torch.ones(2)}
    gpmt.save_sparse(weights, path, metadata={"note": "x"})
    return weights


def test_truncation_anywhere(path):
    small(path)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"m\.sparse\.safetensors"):
            gpmt.load_sparse(path)


def test_a_flipped_bit_anywhere_is_found_or_harmless(tmp_path):
    """Every byte of a small file, one bit each: never another result, never an error of another kind."""
    path = tmp_path / "m.sparse.safetensors"
    weights = small(path)
    whole = path.read_bytes()
    found = 0
    for offset in range(len(whole)):
        flipped = bytearray(whole)
        flipped[offset] ^= 1 << offset % 8
        path.write_bytes(flipped)
        try:
            loaded = gpmt.load_sparse(path)
        except CheckpointError as error:
            assert str(path) in str(error)  # noqa: PT017
            found += 1
        else:
            assert_same(loaded, weights)
    assert found > 0.9 * len(whole.rstrip(b" "))


def change(layout, name, **entry):
    layout["tensors"][name] |= entry
    return layout


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
        ({"crc32": "zz"}, "header that is not valid"),
        ({"crc32": "00000000"}, "does not match its checksum"),
        ({"error": -1.0}, r"claims an error of -1\.0"),
        ({"error": 1e999}, "claims an error of inf"),
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
    ],
)
def test_notes_that_lie(path, notes, message):
    document, data = header(path)
    rewrite(path, document, data, layout=json.loads(document["__metadata__"]["layout"]) | notes)
    with pytest.raises(CheckpointError, match=message):
        gpmt.load_sparse(path)


def test_other_files(tmp_path):
    from safetensors.torch import save_file

    with pytest.raises(CheckpointError, match=r"none does not exist; check the path"):
        gpmt.load_sparse(tmp_path / "none")
    with pytest.raises(CheckpointError, match="is a folder; give the file inside it"):
        gpmt.load_sparse(tmp_path)
    save_file({"w": torch.ones(2)}, tmp_path / "plain.safetensors")
    with pytest.raises(
        CheckpointError, match=r"is not a sparse file of gpmt; gpmt\.load reads files of other kinds"
    ):
        gpmt.load_sparse(tmp_path / "plain.safetensors")
    torch.save({"w": torch.ones(2)}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="is truncated or damaged"):
        gpmt.load_sparse(tmp_path / "a.pt")


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


def test_more_than_there_is_memory_for(path, monkeypatch):
    """An honest file of a network that is too large for this machine: each tensor can be read, all of them not."""
    monkeypatch.setattr("gpmt.formats.sparse.reader.memory_limit", lambda: 10_000)
    with pytest.raises(
        CheckpointError, match="would take 20,720 bytes of memory, more than the 10,000 there are"
    ):
        gpmt.load_sparse(path)
    with gpmt.SparseFile(path) as file:
        assert file["conv.weight"].shape == (16, 8, 3, 3)
        assert file.damaged() == {}


def test_a_file_is_a_mapping(path):
    with gpmt.SparseFile(path) as file:
        assert "nope" not in file
        assert file.get("nope") is None
        assert torch.equal(file.get("fc.bias"), torch.zeros(10))
        assert file == file
        assert file != dict(file)


def test_only_the_damage_of_what_is_asked_for_counts(path):
    damage(path, "fc.weight")
    assert list(gpmt.load_sparse(path, names=["fc.bias"], skip_bad=True)) == ["fc.bias"]
    assert gpmt.load_sparse(path, names=["fc.weight"], skip_bad=True) == {}
    with gpmt.SparseFile(path) as file:
        assert file.damaged(["fc.bias"]) == {}


def test_an_error_in_a_job_is_not_lost():
    def job():
        raise IndexError("of its own")

    for threads in (1, 2):
        with pytest.raises(IndexError, match="of its own"):
            run([job] * 5, threads)
