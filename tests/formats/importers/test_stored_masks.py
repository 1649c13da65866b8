"""Masks that are stored beside their weights."""

from pathlib import Path

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from tests.formats.importers.masked_weights.checks import checkpoint
from torch import Tensor

from gpmt.errors import CheckpointError
from gpmt.formats.importers.stored_masks import check_plain, is_plain, prune_stored, read_mask, without

A = Path("a.pt")
STORED = [torch.bool, torch.uint8, torch.int64, torch.float32, torch.float16, torch.bfloat16, torch.float64]


@given(st.lists(st.booleans(), max_size=20), st.sampled_from(STORED))
def test_masks_of_any_type(bits: list[bool], dtype: torch.dtype) -> None:
    mask = torch.tensor(bits, dtype=torch.bool)
    assert torch.equal(read_mask(A, "m", mask.to(dtype), torch.ones(len(bits))), mask)


def test_minus_zero_is_zero() -> None:
    assert not read_mask(A, "m", torch.tensor([-0.0]), torch.ones(1)).any()


@pytest.mark.parametrize(
    ("value", "shown"), [(0.5, "0.5"), (2, "2"), (-1, "-1"), (float("nan"), "nan"), (float("inf"), "inf")]
)
def test_other_values(value: float, shown: str) -> None:
    message = rf"^a\.pt: fc\.m holds the value {shown}, but a mask holds only 0 and 1; save the file again"
    with pytest.raises(CheckpointError, match=message):
        read_mask(A, "fc.m", torch.tensor([1, value, 0]), torch.ones(3))


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (3, 2, 1)])
def test_other_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(
        CheckpointError, match=r"^a\.pt: m has shape \[.*\], but its weight has \[3, 2\]; save"
    ):
        read_mask(A, "m", torch.ones(shape), torch.ones(3, 2))


@pytest.mark.parametrize(
    ("tensor", "kind"),
    [
        (torch.ones(2, 2).to_sparse(), "sparse_coo on cpu"),
        (torch.ones(2, 2, device="meta"), "strided on meta"),
        (torch.ones(2, 2, dtype=torch.complex64), "complex64"),
        (torch.ones(2, 2).to(torch.float8_e4m3fn), "float8"),
    ],
)
def test_tensors_that_are_not_plain(tensor: Tensor, kind: str) -> None:
    with pytest.raises(
        CheckpointError, match=rf"^a\.pt: x is not a plain tensor \(.*{kind}.*\); save it as one"
    ):
        check_plain(A, "x", tensor)
    assert not is_plain(tensor)


def test_a_plain_tensor() -> None:
    check_plain(A, "x", torch.ones(2, 2))
    assert is_plain(torch.ones(2, 2).T)


def test_a_huge_shape_over_a_small_storage() -> None:
    message = r"^a\.pt: x claims 1,000,000,000,000 elements, but holds fewer; save it as a plain tensor$"
    with pytest.raises(CheckpointError, match=message):
        check_plain(A, "x", torch.ones(1).expand(10**6, 10**6))
    huge = torch.ones(1).expand(10**6, 10**6)
    with pytest.raises(CheckpointError, match="claims"):
        prune_stored(checkpoint({"x": huge}), {"x": huge}, {"x": torch.ones(1, dtype=torch.bool)}, source="t")


def test_nan_is_pruned_to_zero_and_order_stays() -> None:
    weights = {"b": torch.ones(2), "a": torch.tensor([float("nan"), -3.0, 2.0])}
    plain = prune_stored(
        checkpoint(weights), weights, {"a": torch.tensor([False, False, True])}, source="tool"
    )
    assert list(plain.state_dict) == ["b", "a"]
    assert plain.state_dict["a"].tolist() == [0, 0, 2]
    assert not plain.state_dict["a"].signbit().any()
    assert plain.state_dict["b"] is weights["b"]
    assert plain.source == "tool"
    assert weights["a"][1] == -3


def tied() -> tuple[Tensor, dict[str, Tensor]]:
    tensor = torch.arange(1.0, 5).view(2, 2)
    return tensor, {"a": tensor, "x": torch.ones(1), "b": tensor, "flat": tensor.view(-1)}


def test_a_mask_of_a_tensor_holds_under_all_its_names() -> None:
    tensor, weights = tied()
    mask = torch.tensor([[True, False], [True, True]])
    plain = prune_stored(checkpoint(weights), weights, {"b": mask}, source="tool")
    assert plain.state_dict["a"] is plain.state_dict["b"]
    assert plain.state_dict["a"].tolist() == [[1, 0], [3, 4]]
    assert plain.state_dict["flat"].tolist() == [1, 2, 3, 4]
    assert plain.masks is not None
    assert {name: mask.tolist() for name, mask in plain.masks.items()} == {"a": mask.tolist()}
    assert tensor.all()


def test_two_masks_of_a_tensor_both_hold() -> None:
    _, weights = tied()
    masks = {
        "a": torch.tensor([[True, False], [True, True]]),
        "b": torch.tensor([[False, True], [True, True]]),
    }
    plain = prune_stored(checkpoint(weights), weights, masks, source="tool")
    assert plain.state_dict["b"].tolist() == [[0, 0], [3, 4]]


@pytest.mark.parametrize("names", ["a", "b", "ab"])
def test_masks_of_modules_must_agree(names: str) -> None:
    _, weights = tied()
    masks = {name: torch.ones(2, 2, dtype=torch.bool) for name in names}
    plain = prune_stored(checkpoint(weights), weights, masks, source="tool", by_module=True)
    assert plain.state_dict["a"] is plain.state_dict["b"]
    masks[names[-1]][0, 0] = False
    message = (
        r"^a\.pt: a and b are one tensor, but pruned differently, which no plain network can hold; prune both"
    )
    with pytest.raises(CheckpointError, match=message):
        prune_stored(checkpoint(weights), weights, masks, source="tool", by_module=True)


def test_without() -> None:
    container = {"epoch": 1, "optimizer": {}}
    assert without(container, "optimizer", "opt") == {"epoch": 1}
    assert without(None, "optimizer") is None
    assert list(container) == ["epoch", "optimizer"]
