"""Packed bits against bool tensors."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpmt.core.keys import packed_bits
from gpmt.core.keys.packed_bits import complement, pack, pack_nonzero, unpack
from gpmt.errors import MaskError, WeightsError

VALUES = st.sampled_from([0.0, -0.0, 1.0, -2.5, float("nan"), float("inf"), 1e-45, -1e-7])


@given(st.lists(st.booleans(), max_size=40))
def test_packing_is_undone_and_inverted_bit_by_bit(kept):
    bits = pack("w", torch.tensor(kept, dtype=torch.bool))
    assert bits.shape == ((len(kept) + 7) // 8,)
    assert unpack(bits, len(kept)).tolist() == kept
    inverse = complement(bits, len(kept))
    assert unpack(inverse, 8 * len(inverse)).tolist()[: len(kept)] == [not bit for bit in kept]
    assert not unpack(inverse, 8 * len(inverse))[len(kept) :].any()


@settings(max_examples=40)
@given(
    st.lists(VALUES, min_size=1, max_size=30), st.sampled_from(["float64", "float32", "float16", "bfloat16"])
)
def test_what_is_not_zero(values, dtype):
    tensor = torch.tensor(values).to(getattr(torch, dtype))
    assert torch.equal(pack_nonzero("w", tensor), pack("w", tensor != 0))


@pytest.mark.parametrize("memory", ["contiguous", "channels_last", "transposed", "strided"])
def test_every_memory_format_in_chunks_of_any_length(monkeypatch, memory):
    monkeypatch.setattr(packed_bits.MagnitudeKeys.__init__, "__kwdefaults__", {"chunk": 52})
    tensor = torch.randn(6, 5, 3, 6, generator=torch.Generator().manual_seed(0)).relu()
    tensor = {
        "contiguous": tensor,
        "channels_last": tensor.to(memory_format=torch.channels_last),
        "transposed": tensor.transpose(0, 3),
        "strided": tensor[..., ::2],
    }[memory]
    assert torch.equal(pack_nonzero("w", tensor), pack("w", tensor != 0))


def test_what_is_no_mask_or_has_no_data_is_refused_by_name():
    with pytest.raises(MaskError, match=r"^mask w is an array of uint8, but must be bool"):
        pack("w", np.ones(3, np.uint8))
    with pytest.raises(WeightsError, match=r"^w has no data"):
        pack_nonzero("w", torch.ones(2, 2, device="meta"))
