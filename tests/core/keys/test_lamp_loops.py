import numpy as np
import torch

from gpmt.core.keys import lamp_loops
from gpmt.core.keys.lamp_loops import BINS, TOP_BINS


def test_weights_are_counted_by_the_halves_of_their_keys():
    weights = torch.randn(2000, generator=torch.Generator().manual_seed(0)).round(decimals=2)
    keys = weights.view(torch.int32)
    magnitudes = weights.abs().view(torch.int32).numpy()
    counts, squares = np.zeros(TOP_BINS, np.int64), np.zeros(TOP_BINS)
    lamp_loops.sum_squares(keys, counts=counts, squares=squares)
    assert counts.tolist() == np.bincount(magnitudes >> 16, minlength=TOP_BINS).tolist()
    expected = np.bincount(magnitudes >> 16, weights.double().numpy() ** 2, minlength=TOP_BINS)
    assert np.allclose(squares, expected, rtol=1e-12)
    tops = np.flatnonzero(counts)[3:7]
    histograms = np.zeros((4, BINS), np.int64)
    lamp_loops.count_low_halves(keys, tops=tops, histograms=histograms)
    for top, histogram in zip(tops, histograms, strict=True):
        lows = magnitudes[magnitudes >> 16 == top] & (BINS - 1)
        assert histogram.tolist() == np.bincount(lows, minlength=BINS).tolist()
