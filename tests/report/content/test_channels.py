import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpmt.core.layers.axes import Axes
from gpmt.report.content import channels
from gpmt.report.content.channels import channel_map


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(1, 4), min_size=2, max_size=4),
    st.booleans(),
    st.integers(0, 1000),
)
def test_channels_are_counted_as_loops_do(shape: list[int], transposed: bool, seed: int):
    torch.manual_seed(seed)
    tensor = torch.randn(shape) * (torch.rand(shape) < 0.4)
    found = channel_map("w", tensor, Axes(int(transposed)))
    rows = tensor.transpose(0, 1) if transposed else tensor
    assert found.kept_by_output == tuple(int((row != 0).sum()) for row in rows)
    assert found.kept_by_input == tuple(int((rows[:, i] != 0).sum()) for i in range(rows.shape[1]))


def test_a_stack_of_layers_follows_one_another():
    tensor = torch.zeros(2, 3, 4)
    tensor[1, 2, 0] = 1
    found = channel_map("experts", tensor, Axes(1, stacked=True))
    assert found.kept_by_output == (0, 0, 0, 0, 0, 1)
    assert found.kept_by_input == (0, 0, 0, 0, 1, 0, 0, 0)


def test_large_tensors_are_counted_in_pieces(monkeypatch: pytest.MonkeyPatch):
    tensor = torch.arange(60.0).view(10, 6) % 4
    whole = channel_map("w", tensor, Axes())
    monkeypatch.setattr(channels, "_AT_A_TIME", 7)
    assert channel_map("w", tensor, Axes()) == whole
