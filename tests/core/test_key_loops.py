"""The loops over keys: those for the CPU against those for other devices, and zeroing by packed bits."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpmt.core import key_loops
from gpmt.core.keys import KEY32, KEY64

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]


class OffCpu:
    """A CPU tensor that says it lives elsewhere, so that the operations for other devices run here."""

    def __init__(self, tensor):
        self.tensor = tensor
        self.device = torch.device("meta")
        self.dtype = tensor.dtype

    def __getattr__(self, name):
        return getattr(self.tensor, name)

    def __and__(self, other):
        return self.tensor & other

    def __rshift__(self, other):
        return self.tensor >> other

    def __len__(self):
        return len(self.tensor)


@settings(max_examples=100)
@given(st.sampled_from([KEY32, KEY64]), st.data())
def test_the_kernels_for_the_cpu_and_for_other_devices_agree(key_format, data):
    limits = torch.iinfo(key_format.integer)
    values = st.integers(limits.min, limits.max) | st.sampled_from([0, 1, limits.min, key_format.infinity])
    keys = torch.tensor(data.draw(st.lists(values, min_size=1, max_size=60)), dtype=key_format.integer)
    threshold = int(keys[0]) & ((1 << key_format.bits) - 1)
    for run_both in (
        lambda k: _top(k, key_format),
        lambda k: [_digit(k, key_format, shift) for shift in key_format.shifts[1:]],
        lambda k: key_loops.count_above(k, bits=key_format.bits, threshold=threshold),
        lambda k: [
            _pack(k, key_format, threshold, ties, start) for ties in (0, 1, 3, 99) for start in (0, 3, 8)
        ],
    ):
        assert run_both(keys) == run_both(OffCpu(keys))


def _top(keys, key_format):
    histogram = np.zeros(key_loops.TOP_BINS, np.int64)
    key_loops.count_top_digit(keys, bits=key_format.bits, histogram=histogram)
    return histogram.tolist()


def _digit(keys, key_format, shift):
    masked = [int(key) & ((1 << key_format.bits) - 1) for key in keys.tolist()]
    prefixes = np.unique([key >> (shift + 16) for key in masked[:3]])
    histograms = np.zeros((len(prefixes), key_loops.BINS), np.int64)
    key_loops.count_digit(keys, bits=key_format.bits, shift=shift, prefixes=prefixes, histograms=histograms)
    for row, prefix in zip(histograms, prefixes, strict=True):
        assert row.sum() == sum(key >> (shift + 16) == prefix for key in masked)
    return [np.flatnonzero(row).tolist() for row in histograms]


def _pack(keys, key_format, threshold, ties, start):
    packed = np.zeros((start + len(keys) + 7) // 8, np.uint8)
    counts = key_loops.pack_kept(
        keys, bits=key_format.bits, threshold=threshold, ties=ties, packed=packed, start=start
    )
    return counts, packed.tolist()


@given(st.sampled_from(DTYPES), st.integers(0, 50), st.randoms())
def test_zeroing_by_packed_bits_gives_positive_zeros_and_keeps_the_rest(dtype, size, random):
    mask = np.array([random.random() < 0.5 for _ in range(size)], bool)
    weights = torch.full((size,), -3.0, dtype=dtype)
    key_loops.zero_pruned(weights, np.packbits(mask, bitorder="little"))
    expected = [-3.0 if keep_it else 0.0 for keep_it in mask]
    assert weights.tolist() == expected
    assert not torch.signbit(weights)[~torch.from_numpy(mask)].any()
