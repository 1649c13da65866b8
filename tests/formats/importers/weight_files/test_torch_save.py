"""Files of torch.save: state_dicts, and those of torch.sparse matrices."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.formats.checkpoints import assert_same, pruned_weights, source, weights

import gpmt
from gpmt.errors import CheckpointError
from gpmt.formats.exporters.csr import export_csr
from gpmt.formats.importers.weight_files import torch_save


def test_a_state_dict_in_either_format(tmp_path: Path, write: Any) -> None:
    write({"state_dict": weights(), "epoch": 3}, tmp_path / "a.safetensors")  # the content decides
    file = source(tmp_path / "a.safetensors")
    assert torch_save.recognises(file)
    checkpoint = torch_save.read(file)
    assert_same(checkpoint.state_dict, weights())
    assert (checkpoint.key, checkpoint.other_keys) == ("state_dict", ["epoch"])


@pytest.mark.parametrize("layout", ["csr", "csc"])
def test_sparse_matrices_become_dense(tmp_path: Path, layout: Any) -> None:
    export_csr(pruned_weights(), tmp_path / "a.pt", layout=layout, signed_zeros="keep")
    loaded = gpmt.load(tmp_path / "a.pt")
    assert_same(loaded.state_dict, pruned_weights())
    assert loaded.original == {}


def test_other_sparse_tensors_are_refused(tmp_path: Path) -> None:
    torch.save({"w.weight": torch.eye(3).to_sparse_coo()}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=r"^w\.weight has layout torch\.sparse_coo and 2 dimensions"):
        gpmt.load(tmp_path / "a.pt")
