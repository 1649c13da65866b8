"""The loops over keys on the CPU, against the same in NumPy; and zeroing by packed bits."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpmt.core.keys import key_loops
from gpmt.core.keys.keys import KEY32, KEY64, SCORE32, SCORE64

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
FORMATS = [KEY32, KEY64, SCORE32, SCORE64]


def arrays(element, sizes, seed):
    """Return arrays of random bits, or of few different ones, and their addresses."""
    random = np.random.default_rng(seed)
    limits = np.iinfo(element)
    few = random.integers(limits.min, limits.max, 3, dtype=element)
    made = [
        random.integers(limits.min, limits.max, size, dtype=element) if seed % 2 else random.choice(few, size)
        for size in sizes
    ]
    return made, np.array([array.ctypes.data for array in made], np.int64), np.array(sizes, np.int64)


def keys_of(array, key_format):
    word = np.int32 if key_format.bits == 31 else np.int64
    bits = array.astype(word) << 16 if array.dtype == np.int16 else array
    magnitude = bits & word((1 << key_format.bits) - 1)
    return np.where(bits < 0, -magnitude, magnitude) if key_format.signed else magnitude


cases = given(
    st.sampled_from(
        [(key_format, None) for key_format in FORMATS] + [(KEY32, np.int16), (SCORE32, np.int16)]
    ),
    st.lists(st.integers(0, 200), min_size=1, max_size=4),
    st.integers(0, 1000),
    st.data(),
)


def prepare(case, sizes, seed):
    key_format, narrow = case
    element = narrow or (np.int32 if key_format.bits == 31 else np.int64)
    made, addresses, sizes = arrays(element, sizes, seed)
    sign = key_format.word(-1 if key_format.signed else 0)
    return made, [keys_of(array, key_format) for array in made], addresses, sizes, element(0), sign


@settings(max_examples=60, deadline=None)
@cases
def test_scan_counts_from_each_limit_on_and_collects_in_between(case, sizes, seed, data):
    _, keys, addresses, sizes, element, sign = prepare(case, sizes, seed)
    every = data.draw(st.sampled_from([1, 2, 7]))
    pool = np.concatenate([*keys, np.array([0, 5], keys[0].dtype)])
    limits = np.unique(data.draw(st.lists(st.sampled_from(pool.tolist()), min_size=1, max_size=4)))
    limits = limits.astype(pool.dtype)
    collected = np.array(data.draw(st.lists(st.booleans(), min_size=len(limits), max_size=len(limits))))
    counts = np.zeros((len(keys), len(limits)), np.int64)
    room = data.draw(st.sampled_from([1000, 5]))
    buffer, ends = np.zeros(room, pool.dtype), np.zeros(len(keys), np.int64)
    state = np.array([0, every // 2], np.int64)
    key_loops.scan(addresses, sizes, element, sign, limits, collected, every, counts, buffer, ends, state)
    pairs = zip(limits.tolist(), [*limits[1:].tolist(), 1 << 64], collected, strict=True)
    inside = [(low, high) for low, high, wanted in pairs if wanted]
    hits = [[k for k in array.tolist() if any(low <= k < high for low, high in inside)] for array in keys]
    assert counts.tolist() == [[int((array >= limit).sum()) for limit in limits] for array in keys]
    expected = [k for found in hits for k in found][every // 2 :: every]
    assert state[0] == len(expected)
    assert buffer[: min(room, len(expected))].tolist() == expected[:room]
    until = np.cumsum([len(found) for found in hits])
    assert ends.tolist() == [len(range(every // 2, int(end), every)) for end in until]


@settings(max_examples=60, deadline=None)
@cases
def test_pack_sets_bits_above_a_key_and_for_the_first_ties_and_zeroes_the_rest(case, sizes, seed, data):
    made, keys, addresses, sizes, element, sign = prepare(case, sizes, seed)
    before = [array.copy() for array in made]
    cuts = np.array([array[len(array) // 2] if len(array) else 0 for array in keys], keys[0].dtype)
    ties = np.array(data.draw(st.lists(st.integers(0, 9), min_size=len(keys), max_size=len(keys))), np.int64)
    zero, left = data.draw(st.booleans()), ties.copy()
    outputs = [np.full((len(array) + 7) // 8 + 1, 255, np.uint8) for array in keys]
    places = np.array([output.ctypes.data for output in outputs], np.int64)
    above = np.zeros(len(keys), np.int64)
    key_loops.pack(addresses, sizes, element, sign, cuts, left, places, zero, above)
    for i, array in enumerate(keys):
        tied = (array == cuts[i]) & (np.cumsum(array == cuts[i]) <= ties[i])
        kept = (array > cuts[i]) | tied
        assert outputs[i][:-1].tolist() == np.packbits(kept, bitorder="little").tolist()
        assert outputs[i][-1] == 255  # nothing is written past the end
        assert (above[i], left[i]) == ((array > cuts[i]).sum(), ties[i] - tied.sum())
        assert np.array_equal(made[i], np.where(kept, before[i], 0) if zero else before[i])


@settings(max_examples=60, deadline=None)
@cases
def test_sample_takes_every_nth_key_of_each_array(case, sizes, seed, data):
    _, keys, addresses, sizes, element, sign = prepare(case, sizes, seed)
    every = data.draw(st.integers(1, 50))
    firsts = np.array(
        data.draw(st.lists(st.integers(0, every - 1), min_size=len(keys), max_size=len(keys))), np.int64
    )
    expected = np.concatenate([array[first::every] for array, first in zip(keys, firsts, strict=True)])
    buffer = np.empty(len(expected), keys[0].dtype)
    assert key_loops.sample(addresses, sizes, firsts, element, sign, every, buffer) == len(expected)
    assert np.array_equal(buffer, expected)


@settings(max_examples=60, deadline=None)
@cases
def test_find_ranks_finds_the_key_of_a_rank_in_each_array(case, sizes, seed, data):
    _, keys, addresses, sizes, element, sign = prepare(case, [size + 1 for size in sizes], seed)
    ranks = np.array([data.draw(st.integers(1, int(size))) for size in sizes], np.int64)
    found, above = np.empty(len(keys), keys[0].dtype), np.empty(len(keys), np.int64)
    scratch = np.empty(sizes.max(), keys[0].dtype)
    key_loops.find_ranks(addresses, sizes, element, sign, ranks, scratch, found, above)
    for i, array in enumerate(keys):
        assert found[i] == np.sort(array)[len(array) - ranks[i]]
        assert above[i] == (array > found[i]).sum()


@given(st.integers(0, 40), st.lists(st.integers(0, 255), max_size=6))
def test_bits_are_shifted_in_at_any_place(start, chunk):
    chunk = np.array(chunk, np.uint8)
    packed = np.zeros(start // 8 + len(chunk) + 1, np.uint8)
    key_loops.shift_in(packed, start, chunk)
    bits = np.unpackbits(packed, bitorder="little")
    assert bits[start : start + 8 * len(chunk)].tolist() == np.unpackbits(chunk, bitorder="little").tolist()
    assert not bits[:start].any()


@given(st.sampled_from(DTYPES), st.integers(0, 150), st.randoms())
def test_zeroing_by_packed_bits_gives_positive_zeros_and_keeps_the_rest(dtype, size, random):
    mask = np.array([random.random() < 0.5 for _ in range(size)], bool)
    weights = torch.full((size,), -3.0, dtype=dtype)
    key_loops.zero_pruned(weights, np.packbits(mask, bitorder="little"))
    expected = [-3.0 if keep_it else 0.0 for keep_it in mask]
    assert weights.tolist() == expected
    assert not torch.signbit(weights)[~torch.from_numpy(mask)].any()


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_weights_of_one_byte_are_zeroed_too(dtype):
    weights = torch.full((130,), 2.0).to(dtype)
    key_loops.zero_pruned(weights, np.packbits(np.arange(130) % 3 == 0, bitorder="little"))
    assert weights.float().tolist() == [2.0 * (i % 3 == 0) for i in range(130)]
