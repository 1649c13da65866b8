"""Shrinking functions against their formulas in double precision, and what they promise about zeros."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.oracle import keep

from gpmt.core.keys.keys import KEY32, KEY64, MagnitudeKeys
from gpmt.core.layers.axes import Axes
from gpmt.core.selection.select import Cut, select
from gpmt.core.soft.soft_thresholds import below, feather, kept_by, rescaling, soft, threshold_of

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
TIED = st.sampled_from([0.0, -0.0, 0.5, -0.5, 1.0, -2.0]) | st.floats(-4, 4, width=16)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("limit", [1.0, 0.1, 6e-8, 1e-42, 0.0])
def test_the_largest_number_below_a_limit(dtype: torch.dtype, limit: float) -> None:
    found = below(limit, dtype)
    after = torch.nextafter(torch.tensor(found, dtype=dtype), torch.tensor(math.inf, dtype=dtype))
    assert found < limit <= float(after) or found == limit == 0


def test_a_block_that_keeps_all_or_nothing_has_no_threshold() -> None:
    assert threshold_of(Cut(1 << 29, 0, 4, binds=False), 4, KEY32, torch.float32) == 0
    assert threshold_of(Cut((1 << 31) - 1, 0, 0, binds=False), 4, KEY32, torch.float32) == 0
    assert threshold_of(Cut(KEY64.infinity - 1, 0, 1, binds=False), 4, KEY64, torch.float64, most=0.5) < 0.5


@settings(max_examples=60)
@given(st.lists(TIED, min_size=1, max_size=12), st.data())
def test_a_cut_keeps_what_a_full_sort_keeps(values: list[float], data: st.DataObject) -> None:
    weight = torch.tensor(values)
    total = data.draw(st.integers(0, len(values)))
    [selection] = select([MagnitudeKeys("w", weight, KEY32)], KEY32, totals=[total], floors=[0])
    [expected] = keep([np.array(values)], total=total, floors=[0])
    assert kept_by(weight, selection.cuts[0], KEY32).tolist() == expected.tolist()


def test_ties_are_kept_in_flat_order_whatever_the_memory_format() -> None:
    weight = torch.ones(2, 2, 2, 2).to(memory_format=torch.channels_last)
    kept = kept_by(weight, Cut(0x3F80_0000, 5, 5, binds=False), KEY32)
    assert kept.flatten().tolist() == [True] * 5 + [False] * 11


@pytest.mark.parametrize("power", [1, 1.5, 2, 3, 7])
@pytest.mark.parametrize("dtype", DTYPES)
def test_feather_is_its_formula(dtype: torch.dtype, power: float) -> None:
    torch.manual_seed(0)
    weight = torch.randn(500).to(dtype)
    threshold = below(float(weight.abs().double().sort().values[300]), dtype)
    kept = weight.abs() > threshold
    found = feather(weight, kept, threshold, power)
    exact = (weight.double().abs() ** power - threshold**power).clamp(min=0) ** (1 / power)
    expected = torch.where(kept, weight.double().sign() * exact, 0)
    assert found.dtype == dtype
    assert torch.equal(found != 0, kept)
    tolerance = {torch.float16: 2e-3, torch.bfloat16: 1e-2, torch.float32: 1e-5, torch.float64: 1e-7}[dtype]
    exactly = ~kept | (weight.abs().double() > 1.001 * threshold)  # closer to it, the formula cancels
    torch.testing.assert_close(found.double()[exactly], expected[exactly], rtol=tolerance, atol=0)
    assert not found[~kept].signbit().any()


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e-38, 1e30])
@pytest.mark.parametrize("dtype", DTYPES)
def test_no_kept_weight_becomes_zero_however_close_to_the_threshold(dtype: torch.dtype, scale: float) -> None:
    weight = torch.tensor([1.0, 1.2, 1.5, 1.99, -1.7]).double().mul(scale).to(dtype)
    for value in weight[weight.isfinite() & (weight != 0)]:
        threshold = below(float(value.double().abs()), dtype)
        for found in (
            soft(value, value != 0, threshold, None),
            *(feather(value, value != 0, threshold, power) for power in (1, 1.5, 2, 3, 9)),
        ):
            assert found.isfinite().all()
            assert found.sign() == value.sign()
            assert found.abs() <= value.abs()


def test_without_a_threshold_weights_are_as_they_are() -> None:
    weight = torch.tensor([0.3, -0.1, 0.0])
    kept = torch.tensor([True, False, True])
    assert feather(weight, kept, 0.0, 3).tolist() == [weight[0].item(), 0, 0]
    assert soft(weight, kept, 0.0, None).tolist() == [weight[0].item(), 0, 0]


@pytest.mark.parametrize(
    ("axes", "rows"),
    [(Axes(), (1, 2)), (Axes(1), (0, 2)), (Axes(1, stacked=True), (2,)), (Axes(2, stacked=True), (1,))],
)
def test_outputs_are_scaled_by_the_share_of_their_magnitude(axes: Axes, rows: tuple[int, ...]) -> None:
    torch.manual_seed(1)
    weight = torch.randn(3, 4, 5)
    kept = weight.abs() > 0.7
    share = (weight.abs() * kept).double().sum(rows, keepdim=True) / weight.abs().double().sum(
        rows, keepdim=True
    )
    torch.testing.assert_close(rescaling(weight, kept, axes), (1.01 / (share + 0.01)).float())


def test_an_output_of_zeros_is_not_scaled() -> None:
    weight = torch.tensor([[0.0, 0.0], [1.0, 3.0]])
    scale = rescaling(weight, weight > 2, Axes())
    assert scale.flatten().tolist() == pytest.approx([1, 1.01 / 0.76])
