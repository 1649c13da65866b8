"""Tensors as compressed sparse rows or columns, and back, bit for bit."""

import math
import warnings
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.formats.checkpoints import assert_same, pruned_weights
from torch import Tensor

from gpmt.errors import CheckpointError, MaskError, ScopeError
from gpmt.formats.torch_sparse import from_csr, index_dtype, to_csc, to_csr
from gpmt.masks import Masks

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]


@pytest.mark.parametrize("make", [to_csr, to_csc])
def test_round_trip(make: Any) -> None:
    assert_same(from_csr(make(pruned_weights(), signed_zeros="keep")), pruned_weights())
    plain = {name: tensor + 0 for name, tensor in pruned_weights().items()}
    assert_same(from_csr(make(pruned_weights())), plain)


def test_what_is_in_it() -> None:
    sparse = to_csr(pruned_weights())
    assert list(sparse) == ["conv.weight", "conv.weight.shape", *list(pruned_weights())[1:]]
    assert sparse["conv.weight"].shape == (4, 27)
    assert sparse["conv.weight.shape"].tolist() == [4, 3, 3, 3]
    assert sparse["conv.bias"].layout == torch.strided
    fc = sparse["fc.weight"]
    assert fc.crow_indices().tolist() == [0, 1, 1, 3]
    assert fc.col_indices().tolist() == [1, 0, 2]
    assert fc.crow_indices().dtype == fc.col_indices().dtype == torch.int32


def test_negative_zeros_are_entries_on_request() -> None:
    fc = to_csr(pruned_weights(), signed_zeros="keep")["fc.weight"]
    assert fc.crow_indices().tolist() == [0, 1, 2, 4]
    assert fc.col_indices().tolist() == [1, 2, 0, 2]
    assert [math.copysign(1, value) for value in fc.values().tolist()] == [1, -1, 1, -1]


def test_columns_are_those_of_scipy() -> None:
    conv = pruned_weights()["conv.weight"].reshape(4, 27)
    ours, theirs = to_csc({"conv.weight": conv})["conv.weight"], scipy.sparse.csc_matrix(conv.numpy())
    np.testing.assert_array_equal(ours.ccol_indices(), theirs.indptr)
    np.testing.assert_array_equal(ours.row_indices(), theirs.indices)
    np.testing.assert_array_equal(ours.values(), theirs.data)


def test_it_multiplies() -> None:
    sparse, vector = to_csr(pruned_weights())["conv.weight"], torch.randn(27)
    torch.testing.assert_close(sparse @ vector, pruned_weights()["conv.weight"].reshape(4, 27) @ vector)


@given(
    rows=st.integers(1, 5),
    columns=st.integers(1, 9),
    dtype=st.sampled_from(DTYPES),
    values=st.lists(
        st.sampled_from([0.0, -0.0, 1.5, -2.0, math.inf, math.nan, 6e-8]), min_size=45, max_size=45
    ),
    masked=st.booleans(),
    make=st.sampled_from([to_csr, to_csc]),
)
def test_any_bits_come_back(
    rows: int, columns: int, dtype: torch.dtype, values: list[float], masked: bool, make: Any
) -> None:
    state = {"w.weight": torch.tensor(values)[: rows * columns].reshape(rows, columns, 1).to(dtype)}
    masks = Masks.from_dense({"w.weight": torch.ones(rows, columns, 1, dtype=torch.bool)}) if masked else None
    sparse = make(state, masks, signed_zeros="keep")
    assert_same(from_csr(sparse), state)
    if masked:
        assert sparse["w.weight"].values().numel() == rows * columns


def test_masks_keep_zeros_and_say_what_becomes_sparse() -> None:
    mask = torch.tensor([[True, True, False], [True, False, False], [True, False, True]])
    masks = Masks.from_dense({"fc.weight": mask})
    sparse = to_csr(pruned_weights(), masks)
    assert sparse["conv.weight"].layout == torch.strided
    assert sparse["fc.weight"].crow_indices().tolist() == [0, 2, 3, 5]
    assert sparse["fc.weight"].values().tolist() == [0, 2, 0, 1, -3]
    again = from_csr(sparse)["fc.weight"]
    assert torch.equal(again, pruned_weights()["fc.weight"])
    assert not torch.signbit(again[1, 2])  # pruned, and -0.0 before


def test_masks_that_do_not_fit() -> None:
    with pytest.raises(
        MaskError, match=r"^3 weights of fc\.weight are not zero though its mask prunes them; apply"
    ):
        to_csr(pruned_weights(), Masks.from_dense({"fc.weight": torch.zeros(3, 3, dtype=torch.bool)}))
    mask = torch.ones(3, 3, dtype=torch.bool)
    mask[1, 2] = False
    with pytest.raises(
        MaskError, match=r"^1 weights of fc\.weight are not zero or are −0\.0 though its mask prunes"
    ):
        to_csr(pruned_weights(), Masks.from_dense({"fc.weight": mask}), signed_zeros="keep")
    with pytest.raises(MaskError, match=r"^masked tensor other\.weight is missing"):
        to_csr(pruned_weights(), Masks.from_dense({"other.weight": torch.ones(3, 3, dtype=torch.bool)}))


def test_tied_tensors_stay_tied() -> None:
    state = pruned_weights()
    state["tied.weight"] = state["conv.weight"]
    sparse = to_csr(state)
    assert sparse["tied.weight"] is sparse["conv.weight"]


def test_indices_are_int64_where_int32_does_not_reach() -> None:
    assert index_dtype(2**31 - 1) == torch.int32
    assert index_dtype(2**31) == torch.int64
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert torch.equal(from_csr({"w.weight": csr([0, 1], [2], (1, 4))})["w.weight"], torch.eye(4)[2:3])


def csr(starts: list[int], entries: list[int], shape: tuple[int, int]) -> Tensor:
    index = torch.int64
    return torch.sparse_csr_tensor(
        torch.tensor(starts, dtype=index),
        torch.tensor(entries, dtype=index),
        torch.ones(len(entries)),
        shape,
        check_invariants=False,
    )


def hostile() -> dict[str, tuple[dict[str, Tensor], str]]:
    fine = to_csr(pruned_weights())
    return {
        "terabyte": (
            {"w.weight": csr([0, 1], [5], (1, 2**40))},
            r"^w\.weight claims the shape \[1, 1099511627776\] for a matrix of \[1, 1099511627776\] with 1 entries; ",
        ),
        "shape": (
            fine | {"conv.weight.shape": torch.tensor([4, 3, 3, 4])},
            r"^conv\.weight claims the shape \[4, 3, 3, 4\] for a matrix of \[4, 27\] with \d+ entries; the file is ",
        ),
        "negative": (fine | {"conv.weight.shape": torch.tensor([-4, -27])}, r"claims the shape \[-4, -27\]"),
        "numbers": (
            fine | {"conv.weight.shape": torch.tensor([4.0, 27.0])},
            r"^conv\.weight claims the shape",
        ),
        "table": (
            fine | {"conv.weight.shape": torch.tensor([[4, 27]])},
            r"^conv\.weight claims the shape \[\[4, 27\]\]",
        ),
        "column": (
            {"w.weight": csr([0, 1], [9], (1, 3))},
            r"^w\.weight is damaged \(.*col_indices.*\); write",
        ),
        "starts": (
            {"w.weight": csr([0, 5], [1], (1, 3))},
            r"^w\.weight is damaged \(.*\); write the file again$",
        ),
        "layout": (
            {"w.weight": torch.eye(3).to_sparse_coo()},
            r"^w\.weight has layout torch\.sparse_coo and 2 dimensions, but must be a matrix in torch\.sparse_csr",
        ),
    }


@pytest.mark.parametrize("name", hostile())
def test_damaged_entries(name: str) -> None:
    tensors, message = hostile()[name]
    with pytest.raises(CheckpointError, match=message):
        from_csr(tensors)


def test_what_cannot_be_made() -> None:
    with pytest.raises(ScopeError, match="no prunable tensor"):
        to_csr({"bias": torch.ones(3)})
    with pytest.raises(
        CheckpointError, match=r"^conv\.weight\.shape is a tensor, but is to hold the shape of conv"
    ):
        to_csr(pruned_weights() | {"conv.weight.shape": torch.ones(4)})
