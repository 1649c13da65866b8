from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tests.formats.checkpoints import assert_same, pruned_weights, source, weights

import gpmt
from gpmt.errors import CheckpointError
from gpmt.formats.importers.source import Source
from gpmt.formats.importers.weight_files import safetensors


def test_plain_tensors_under_any_name(tmp_path: Path) -> None:
    save_file(weights(), tmp_path / "a.pt", metadata={"author": "me"})
    file = source(tmp_path / "a.pt")
    assert safetensors.recognises(file)
    checkpoint = safetensors.read(file)
    assert_same(dict(sorted(checkpoint.state_dict.items())), dict(sorted(weights().items())))
    assert (checkpoint.metadata, checkpoint.source) == ({"author": "me"}, safetensors.NAME)


def test_the_metadata_tell_that_tensors_are_coded(tmp_path: Path) -> None:
    gpmt.save_sparse(pruned_weights(), tmp_path / "a.safetensors")
    checkpoint = safetensors.read(source(tmp_path / "a.safetensors"))
    assert checkpoint.source == "sparse file"
    for name, tensor in pruned_weights().items():
        assert torch.equal(checkpoint.state_dict[name], tensor)


def test_damaged_tensors_are_left_out_where_the_source_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.sparse.safetensors"
    gpmt.save_sparse({"a": torch.ones(3)}, path)
    raw = path.read_bytes()
    path.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    with pytest.raises(CheckpointError, match="a does not match its checksum"):
        safetensors.read(Source(path))
    assert list(safetensors.read(Source(path, skip_bad=True)).damaged) == ["a"]


@pytest.mark.parametrize("content", [b"", b"{}", b"\x02\0\0\0\0\0\0\0[]", b"\xff" * 8 + b"{}"])
def test_other_beginnings_are_not_taken(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.safetensors").write_bytes(content)
    assert not safetensors.recognises(source(tmp_path / "a.safetensors"))
