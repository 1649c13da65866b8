"""Masks from thresholds are the same however keys are read; zeros are written where they are asked for alone."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpmt.core.keys.key_packing import pack_keys
from gpmt.core.keys.keys import KEY32, SCORE32, MagnitudeKeys


class Chunks:
    """A source that is read in chunks of some sizes, on a device or as if it were."""

    def __init__(self, tensor, sizes, device="cpu"):
        self.name, self.numel, self.device = "w", tensor.numel(), torch.device(device)
        self.parts = torch.split(tensor.view(torch.int32), sizes)

    def chunks(self):
        return iter(self.parts)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.0, -3.0]), min_size=1, max_size=200),
    st.sampled_from([KEY32, SCORE32]),
    st.sampled_from([1.0, -1.0, 0.0]),
    st.integers(0, 30),
    st.data(),
)
def test_chunks_of_any_size_are_packed_like_the_whole(values, key_format, cut, ties, data):
    tensor = torch.tensor(values)
    sizes, left = [], len(values)
    while left:
        sizes.append(data.draw(st.integers(1, left)))
        left -= sizes[-1]
    ranked = tensor.abs() if key_format is KEY32 else tensor
    key = 0 if cut == 0 else 0x3F80_0000 if cut > 0 or key_format is KEY32 else -0x3F80_0000
    limit = abs(cut) if key_format is KEY32 else cut
    larger, equal = ranked > limit, ranked == limit
    expected = larger | (equal & (equal.cumsum(0) <= ties))
    for source in (MagnitudeKeys("w", tensor, key_format), Chunks(tensor, sizes)):
        [packed] = pack_keys([source], key_format, keys=[key], ties=[ties])
        bits = np.unpackbits(packed.bits.numpy(), count=len(values), bitorder="little")
        assert bits.tolist() == expected.int().tolist()
        assert (packed.above, packed.tied) == (int(larger.sum()), min(ties, int(equal.sum())))


def test_zeros_are_written_only_where_they_are_asked_for():
    kept = torch.tensor([1.0, -2.0, 3.0, -4.0])
    for zero in (False, True):
        weights = kept.clone()
        pack_keys(
            [MagnitudeKeys("w", weights, KEY32)], KEY32, keys=[0x4000_0000], ties=[0], zero=zero
        )  # above 2
        assert weights.tolist() == ([0.0, 0.0, 3.0, -4.0] if zero else kept.tolist())
