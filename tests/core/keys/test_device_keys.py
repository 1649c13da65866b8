"""The operations for other devices, against those of the CPU; those for counting and selecting are in test_select."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from gpmt.core.keys import device_keys
from gpmt.core.keys.keys import KEY32, KEY64, SCORE32, SCORE64

KEYS = st.lists(st.integers(-9, 9), max_size=40).map(lambda values: torch.tensor(values, dtype=torch.int32))


@given(st.lists(st.floats(allow_nan=False, width=32), max_size=20), st.sampled_from([KEY32, KEY64]))
def test_keys_order_as_magnitudes_and_scores_do(values, magnitudes):
    bits = torch.tensor(values, dtype=magnitudes.dtype).view(magnitudes.integer)
    for key_format, ranked in (
        (magnitudes, np.abs),
        (SCORE32 if magnitudes is KEY32 else SCORE64, np.asarray),
    ):
        keys = device_keys.keys_of(bits, key_format).numpy()
        order = np.argsort(keys, kind="stable")
        assert order.tolist() == np.argsort(ranked(values), kind="stable").tolist()


@given(KEYS, st.lists(st.integers(-9, 9), min_size=1, max_size=4, unique=True))
def test_keys_are_counted_and_found(keys, limits):
    assert device_keys.count_from(keys, limits).tolist() == [int((keys >= limit).sum()) for limit in limits]
    intervals = list(zip(sorted(limits), sorted(limits)[1:], strict=False))
    found = [key for key in keys.tolist() if any(lower <= key < upper for lower, upper in intervals)]
    assert device_keys.inside(keys, intervals).tolist() == found


@given(KEYS, st.integers(-9, 9), st.integers(0, 9))
def test_bits_are_packed(keys, key, ties):
    bits, above, tied = device_keys.pack(keys, key, ties)
    equal = keys == key
    kept = (keys > key) | (equal & (equal.cumsum(0) <= ties))
    assert np.unpackbits(bits, count=len(keys), bitorder="little").tolist() == kept.int().tolist()
    assert (above, tied) == (int((keys > key).sum()), min(ties, int(equal.sum())))
