"""Reading a sparse file, whole and in parts, and what is damaged in it."""

import json

import pytest
import torch
from tests.formats.checkpoints import assert_same
from tests.formats.sparse.containers import change, damage, header, rewrite
from tests.formats.sparse.networks import sparse, state

import gpmt
from gpmt.errors import CheckpointError


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


def test_a_limit_of_bytes(path):
    message = "would take 20,720 bytes of memory, more than the 20,719 allowed; raise max_bytes if you trust the file"
    with pytest.raises(CheckpointError, match=message):
        gpmt.load_sparse(path, max_bytes=20_719)
    assert_same(gpmt.load_sparse(path, max_bytes=20_720), state())
    with gpmt.SparseFile(path, max_bytes=4608) as file:
        assert file["conv.weight"].nbytes == 4608
        with pytest.raises(CheckpointError, match="more than the 4,608 allowed"):
            file["fc.weight"]


def test_the_most_that_a_file_expands_is_stated(tmp_path):
    """Eight bytes of index stand for 65,536 weights; a header that claims more of them is refused."""
    path = tmp_path / "zeros.sparse.safetensors"
    numel = 40 * 65_536
    gpmt.save_sparse({"w": torch.zeros(numel, dtype=torch.float64)}, path)
    document, data = header(path)
    assert document["w:mask"]["shape"] == [40 * 8]
    assert 65_536 * len(data) == 8 * numel
    layout = change(json.loads(document["__metadata__"]["layout"]), "w", shape=[numel + 1])
    rewrite(path, document, data, layout=layout)
    with pytest.raises(
        CheckpointError, match=r"claims 0 of 2,621,441 weights for w, with a mask of 320 bytes"
    ):
        gpmt.SparseFile(path)


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
