"""Files of torch.sparse matrices, read back."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.formats.checkpoints import assert_same, pruned_weights
from torch import Tensor

from gpmt.errors import CheckpointError
from gpmt.formats.exporters.csr import export_csr
from gpmt.formats.torch_sparse import from_csr


def torch_load(path: Path) -> dict[str, Tensor]:
    with torch.sparse.check_sparse_tensor_invariants(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Validating sparse tensor invariants", UserWarning)
        loaded: dict[str, Tensor] = torch.load(path, weights_only=True)
    return loaded


@pytest.mark.parametrize("layout", ["csr", "csc"])
def test_a_file(tmp_path: Path, layout: Any) -> None:
    path = tmp_path / "a.csr.pt"
    assert export_csr(pruned_weights(), path, layout=layout, signed_zeros="keep") == 0
    loaded = torch_load(path)
    assert str(loaded["conv.weight"].layout) == f"torch.sparse_{layout}"
    assert_same(from_csr(loaded), pruned_weights())
    assert list(tmp_path.iterdir()) == [path]


def test_negative_zeros_are_counted(tmp_path: Path) -> None:
    weights = pruned_weights()
    given = sum(int((tensor.signbit() & (tensor == 0)).sum()) for tensor in weights.values())
    assert export_csr(weights, tmp_path / "a.pt") == given > 1
    dense = from_csr(torch_load(tmp_path / "a.pt"))
    assert all(torch.equal(dense[name], tensor) for name, tensor in weights.items())


def test_tied_tensors_stay_tied(tmp_path: Path) -> None:
    state = pruned_weights()
    state["tied.weight"] = state["conv.weight"]
    export_csr(state, tmp_path / "a.pt", signed_zeros="keep")
    dense = from_csr(torch_load(tmp_path / "a.pt"))
    assert_same(dense, state)
    assert dense["tied.weight"] is dense["conv.weight"]


def test_no_warning(tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        export_csr(pruned_weights(), tmp_path / "a.pt")
    assert caught == []


def test_a_folder_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"gone does not exist; create it first$"):
        export_csr(pruned_weights(), tmp_path / "gone" / "a.pt")
