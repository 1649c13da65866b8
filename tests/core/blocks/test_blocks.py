import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpmt.core.blocks.blocks import WHOLE, Blocks, Split
from gpmt.errors import ScopeError


@st.composite
def divided(draw):
    """A tensor of its own flat positions, and blocks of it."""
    shape, splits = [], []
    for dim in range(draw(st.integers(1, 3))):
        parts = tuple(draw(st.lists(st.integers(1, 3), min_size=1, max_size=3)))
        repeats = draw(st.integers(1, 3))
        shape.append(repeats * sum(parts))
        if draw(st.booleans()):
            splits.append(Split(dim, parts, repeats=repeats))
    return torch.arange(torch.Size(shape).numel()).view(shape), Blocks(tuple(splits))


def position(split, index):
    """Which part of a split an index of its dimension belongs to: the slow way."""
    parts = [
        part for _ in range(split.repeats) for part, length in enumerate(split.parts) for _ in range(length)
    ]
    return parts[index]


@settings(max_examples=100)
@given(divided())
def test_blocks_are_views_that_hold_every_position_once(made):
    tensor, blocks = made
    blocks.check(tensor, "w")
    views = blocks.views(tensor)
    assert len(views) == len(blocks) == len(set(blocks.names("w")))
    assert all(view.untyped_storage().data_ptr() == tensor.untyped_storage().data_ptr() for view in views)
    shapes = [torch.Size(shape) for shape in blocks.shapes(tensor.shape)]
    assert [shape.numel() for shape in shapes] == [view.numel() for view in views]
    assert all(len(shape) == tensor.ndim for shape in shapes)
    assert sorted(flat for view in views for flat in view.flatten().tolist()) == list(range(tensor.numel()))
    for index, view in enumerate(views):
        for flat in view.flatten().tolist():
            place = torch.unravel_index(torch.tensor(flat), tensor.shape)
            expected = 0
            for split in blocks.splits:
                expected = expected * len(split.parts) + position(split, int(place[split.dim]))
            assert expected == index


def test_a_tensor_without_a_division_is_one_block():
    tensor = torch.ones(2, 3)
    assert WHOLE.names("w") == ["w"]
    assert WHOLE.views(tensor)[0] is tensor


def test_gate_and_up_that_alternate():
    tensor = torch.arange(2 * 3 * 8).view(2, 3, 8)
    blocks = Blocks((Split(0, (1, 1)), Split.equal(2, 8, ("gate", "up"), repeats=4)))
    assert blocks.names("gate_up_proj") == [f"gate_up_proj[{e}].{n}" for e in (0, 1) for n in ("gate", "up")]
    assert torch.equal(blocks.views(tensor)[3].reshape(3, 4), tensor[1, :, 1::2])


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ((Split(0, (2, 2)),), r"divide 4 elements of dimension 0, but its shape \[6, 4\] has 6 there"),
        ((Split(2, (2, 2)),), "has none there"),
        ((Split(0, (3, 3), ("q",)),), "1 labels for 2 parts"),
        ((Split(0, (6, 0)),), "at least one element"),
    ],
)
def test_blocks_that_do_not_fit_are_refused(splits, message):
    with pytest.raises(ScopeError, match=message):
        Blocks(splits).check(torch.ones(6, 4), "w")


def test_unequal_parts_are_refused_with_the_numbers():
    with pytest.raises(ScopeError, match="dimension of 10 cannot be divided into 3 equal parts"):
        Split.equal(0, 10, ("q", "k", "v"))
