"""The compiled loops themselves: what they count, where they stop, and what they leave alone."""

import dataclasses

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gpmt.errors import MaskError
from gpmt.formats.masks import rice, rice_loops

SIZES = st.sampled_from([1, 7, 8, 63, 64, 65, 127, 300])


def pack(mask):
    return np.packbits(mask, bitorder="little")


def random_mask(numel, density, seed=0):
    return np.random.default_rng(seed).random(numel) < density


@given(SIZES, st.sampled_from([0.0, 0.1, 0.5, 1.0]), st.booleans(), st.integers(0, 99))
def test_measure_counts_the_bits_of_every_parameter(numel, density, complement, seed):
    mask = random_mask(numel, density, seed)
    positions = np.flatnonzero(mask != complement)
    gaps = np.diff(positions, prepend=-1) - 1
    coded = np.zeros(1, np.int64)
    costs = np.zeros((1, rice_loops.MAX_PARAMETER + 1), np.int64)
    rice_loops.measure(pack(mask), numel, complement, coded, costs)
    assert coded.tolist() == [positions.size]
    assert costs[0].tolist() == [int(((gaps >> k) + 1 + k).sum()) for k in range(17)]


@given(SIZES, st.sampled_from([np.uint8, np.uint16, np.uint32, np.uint64]), st.integers(0, 99))
def test_gather_copies_the_kept_and_nothing_behind_them(numel, dtype, seed):
    mask = random_mask(numel, 0.4, seed)
    weights = np.arange(numel).astype(dtype)
    kept = np.full(mask.sum() + 1, 255, dtype)
    assert rice_loops.gather(pack(mask), weights, kept) == mask.sum()
    np.testing.assert_array_equal(kept, np.append(weights[mask], dtype(255)))


@pytest.mark.parametrize("bad", [0, 1, 2])
@pytest.mark.parametrize("density", [0.1, 0.9])
def test_the_first_block_that_is_not_valid_is_told(bad, density):
    numel = 2 * rice.BLOCK + 500
    code = rice.encode(pack(random_mask(numel, density)), numel)
    index, data = code.index, code.data.copy()
    for block in range(bad, 3):
        data[index.starts[block] : index.starts[block + 1]] = 0  # no code ever ends
    packed, out = np.zeros((numel + 7) // 8, np.uint8), np.zeros(numel, np.uint32)
    values = np.ones(code.kept, np.uint32)
    settings_ = (code.parameter, code.complement)
    assert rice_loops.read_bits(data, index.starts, index.coded, numel, *settings_, packed) == bad
    assert rice_loops.scatter(data, index.starts, index.coded, *settings_, values, out) == bad
    assert rice_loops.scatter(code.data, index.starts, index.coded, *settings_, values, out) == -1


def test_fewer_values_than_a_block_keeps_are_noticed_before_they_are_read():
    code = rice.encode(pack(random_mask(500, 0.2)), 500)
    out = np.full(500, 9, np.uint32)
    values = np.ones(code.kept - 1, np.uint32)
    found = rice_loops.scatter(
        code.data, code.index.starts, code.index.coded, code.parameter, code.complement, values, out
    )
    assert found == 0
    assert (out == 9).all()


def test_a_hole_far_longer_than_the_typical_gap():
    mask = np.ones(rice.BLOCK, bool)
    mask[::2] = False  # the best parameter is 0, in which a gap takes as many bits as it is long
    mask[100:60_000] = False
    code = rice.encode(pack(mask), mask.size)
    np.testing.assert_array_equal(rice.decode(code), pack(mask))


@given(st.integers(0, 99), st.sampled_from([0.02, 0.3, 0.8]), st.data())
def test_no_damage_reads_or_writes_out_of_bounds(seed, density, data):
    """Whatever the bytes, the result is an error or another valid code; guards around the output stay intact."""
    code = rice.encode(pack(random_mask(3000, density, seed)), 3000)
    damaged = code.data.copy()
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, damaged.size - 1))] ^= data.draw(st.integers(1, 255))
    bad = dataclasses.replace(code, data=damaged, parameter=data.draw(st.integers(0, 16)))
    guarded = np.full(3000 + 2000, 9, np.uint32)
    try:
        rice.scatter(bad, 0, 1, np.ones(code.kept, np.uint32), guarded[1000:4000])
    except MaskError:
        pass
    else:
        assert (guarded[1000:4000] == 1).sum() == code.kept
        assert np.bitwise_count(rice.decode(bad)).sum() == code.kept
    assert (guarded[:1000] == 9).all()
    assert (guarded[4000:] == 9).all()


@given(st.integers(0, 99), st.data())
def test_another_byte_of_code_is_another_mask_or_an_error(seed, data):
    mask = random_mask(500, 0.2, seed)
    code = rice.encode(pack(mask), mask.size)
    assume(code.data.size > 8)
    damaged = code.data.copy()
    damaged[data.draw(st.integers(8, damaged.size - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        decoded = rice.decode(dataclasses.replace(code, data=damaged))
    except MaskError:
        return
    assert not np.array_equal(decoded, pack(mask))
