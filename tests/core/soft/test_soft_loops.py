"""The loops of soft masks do what the torch operations do."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gpmt.core.keys.keys import KEY32, MagnitudeKeys
from gpmt.core.layers.axes import Axes
from gpmt.core.selection.select import select
from gpmt.core.soft import soft_loops
from gpmt.core.soft.soft_thresholds import feather, kept_by, rescaling, soft, threshold_of


def case(
    rows: int, columns: int, share: float, *, tied: bool
) -> tuple[torch.Tensor, torch.Tensor, float, tuple[float, int]]:
    torch.manual_seed(rows)
    weight = torch.randn(rows, columns)
    if tied:
        weight = (weight * 4).round() / 4
    total = int(share * weight.numel())
    [selection] = select([MagnitudeKeys("w", weight, KEY32)], KEY32, totals=[total], floors=[0])
    cut = selection.cuts[0]
    kept = kept_by(weight, cut, KEY32)
    limit = weight.abs()[kept].min().item()
    return weight, kept, threshold_of(cut, weight.numel(), KEY32, weight.dtype), (limit, cut.ties)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(("rows", "columns"), [(1, 7), (9, 113), (5, 1024), (33, 100)])
@pytest.mark.parametrize("share", [0.5, 0.1])
def test_loops_equal_the_operations(rows: int, columns: int, share: float, tied: bool) -> None:
    weight, kept, threshold, (limit, ties) = case(rows, columns, max(share, 1 / (rows * columns)), tied=tied)
    flat, shown = weight.flatten().numpy(), torch.full_like(weight, torch.nan)
    given = (flat, np.float32(limit), ties, np.float32(threshold), shown.view(-1).numpy())
    soft_loops.feather3(*given)
    expected = feather(weight.double(), kept, threshold, 3).float()
    assert torch.equal(shown != 0, kept)
    assert not shown[~kept].signbit().any()
    torch.testing.assert_close(shown, expected, rtol=1e-6, atol=0)
    soft_loops.soft(*given)
    assert torch.equal(shown, soft(weight, kept, threshold, None))
    soft_loops.rescale(flat, shown.view(-1).numpy(), columns)
    torch.testing.assert_close(shown, soft(weight, kept, threshold, rescaling(weight, kept, Axes())))
    assert torch.equal(shown != 0, kept)


@pytest.mark.parametrize("scale", [1.0, 1e-37, 1e30])
def test_no_kept_weight_becomes_zero(scale: float) -> None:
    values = torch.linspace(1, 2, 4096) * scale
    for place in (0, 17, 2048, 4000):
        limit = values[place].item()
        threshold = torch.nextafter(values[place], torch.zeros(())).item()
        shown = torch.empty_like(values)
        for loop in (soft_loops.feather3, soft_loops.soft):
            loop(values.numpy(), np.float32(limit), 1, np.float32(threshold), shown.numpy())
            assert torch.equal(shown != 0, values >= limit)
            assert (shown <= values).all()


def test_gradients_of_zeros_are_scaled() -> None:
    gradients, shown = np.ones(5, np.float32), np.array([0, 1, -0.0, 2, 0], np.float32)
    soft_loops.scale_pruned(gradients, shown, np.float32(0.5))
    assert gradients.tolist() == [0.5, 1, 0.5, 1, 0.5]
