"""Rice-coded masks against a coder written out bit by bit, and codes that no coder wrote."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from gpmt.errors import MaskError
from gpmt.formats.masks import rice


def pack(mask):
    return np.packbits(mask, bitorder="little")


def slow_code(mask, parameter, complement):
    """The code of one block as the format's description has it, one bit at a time."""
    bits, gap = [], 0
    for kept in mask:
        if bool(kept) == complement:
            gap += 1
            continue
        bits += [0] * (gap >> parameter) + [1]
        bits += [gap >> i & 1 for i in range(parameter)]
        gap = 0
    return pack(np.array(bits, bool))


def masks_of_any_density():
    """Masks up to a few blocks, of any density, with runs."""

    @st.composite
    def build(draw):
        numel = draw(st.sampled_from([0, 1, 7, 8, 63, 64, 65, 300, 65535, 65536, 65537, 140_000]))
        density = draw(st.sampled_from([0.0, 0.0001, 0.01, 0.1, 0.3, 0.5, 0.51, 0.9, 0.9999, 1.0]))
        mask = np.random.default_rng(draw(st.integers(0, 99))).random(numel) < density
        if numel and draw(st.booleans()):
            first = draw(st.integers(0, numel - 1))
            mask[first : draw(st.integers(first, numel))] = draw(st.booleans())
        return mask

    return build()


def scatter_all(code, values, dtype=np.uint32):
    out = np.full(code.numel, 9, dtype)
    for first, last in rice.block_ranges(code.numel):
        kept = code.index.kept
        part = out[first * rice.BLOCK : min(last * rice.BLOCK, code.numel)]
        rice.scatter(code, first, last, values[kept[first] : kept[last]], part)
    return out


@given(masks_of_any_density())
def test_decoding_returns_what_was_encoded(mask):
    code = rice.encode(pack(mask), mask.size)
    assert code.kept == mask.sum()
    np.testing.assert_array_equal(rice.decode(code), pack(mask))


@given(masks_of_any_density(), st.sampled_from([np.uint8, np.uint16, np.uint32, np.uint64]))
def test_values_land_where_the_mask_keeps(mask, dtype):
    code = rice.encode(pack(mask), mask.size)
    values = np.random.default_rng(0).integers(1, 255, code.kept).astype(dtype)
    expected = np.zeros(mask.size, dtype)
    expected[mask] = values
    np.testing.assert_array_equal(scatter_all(code, values, dtype), expected)
    np.testing.assert_array_equal(rice.gather(pack(mask), expected), values)


@given(npst.arrays(bool, st.integers(1, 200)))
def test_the_code_is_the_described_one(mask):
    code = rice.encode(pack(mask), mask.size)
    assert code.complement == (2 * mask.sum() > mask.size)
    lengths = [len(slow_code(mask, k, code.complement)) for k in range(rice.MAX_PARAMETER + 1)]
    assert len(code.data) - 8 <= min(lengths) + (code.parameter != int(np.argmin(lengths)))
    np.testing.assert_array_equal(code.data[8:], slow_code(mask, code.parameter, code.complement))
    coded = mask.size - mask.sum() if code.complement else mask.sum()
    assert code.data[:8].view("<u4").tolist() == [coded, len(code.data) - 8]


def test_blocks_start_afresh():
    mask = np.zeros(rice.BLOCK + 10, bool)
    mask[[5, rice.BLOCK + 3]] = True
    code = rice.encode(pack(mask), mask.size)
    first, second = (
        slow_code(mask[: rice.BLOCK], code.parameter, False),
        slow_code(mask[rice.BLOCK :], code.parameter, False),
    )
    assert code.data[:16].view("<u4").tolist() == [1, len(first), 1, len(second)]
    np.testing.assert_array_equal(code.data[16:], np.concatenate([first, second]))
    out = np.full(10, 9, np.uint32)
    rice.scatter(code, 1, 2, np.array([7], np.uint32), out)  # a block is read without those before it
    assert out.tolist() == [0, 0, 0, 7, 0, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("density", [0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.005])
def test_size_is_close_to_the_entropy(density):
    numel = 1_000_000
    mask = np.random.default_rng(0).random(numel) < density
    share = mask.mean()
    entropy = -numel * (share * math.log2(share) + (1 - share) * math.log2(1 - share)) / 8
    assert len(rice.encode(pack(mask), numel).data) < 1.05 * entropy


def test_a_mask_of_one_kind_takes_eight_bytes_a_block():
    for fill in (False, True):
        mask = np.full(3 * rice.BLOCK, fill)
        code = rice.encode(pack(mask), mask.size)
        assert len(code.data) == 24
        np.testing.assert_array_equal(rice.decode(code), pack(mask))


def example(numel=70_000, density=0.1):
    mask = np.random.default_rng(1).random(numel) < density
    return rice.encode(pack(mask), numel)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"numel": 1 << 60}, "too few for the index of 17,592,186,044,416 blocks"),
        ({"numel": 50_000}, "end at byte"),
        ({"kept": -1}, "it keeps -1 of 70,000"),
        ({"kept": 70_001}, "it keeps 70,001 of 70,000"),
        ({"kept": 7}, "not 7; it is damaged"),
        ({"parameter": 17}, "Rice parameter is 17, not 0 to 16"),
        ({"parameter": -1}, "Rice parameter is -1"),
        ({"data": np.zeros(3, np.uint8)}, "3 bytes, too few for the index of 2 blocks"),
        ({"data": np.full(16, 255, np.uint8)}, "codes more positions than it has"),
        ({"data": np.zeros(17, np.uint8)}, "end at byte 16 of 17"),
    ],
)
def test_claims_that_cannot_be_are_refused_before_anything_is_allocated(change, message):
    with pytest.raises(MaskError, match=message):
        rice.decode(dataclasses.replace(example(), **change))


def test_a_place_that_does_not_fit_is_refused():
    code = example()
    with pytest.raises(MaskError, match="hold 65,536 weights"):
        rice.scatter(code, 0, 1, np.zeros(1, np.uint32), np.zeros(65_536, np.uint32))
