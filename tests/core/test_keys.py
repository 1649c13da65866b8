"""Keys of weights in flat order, in one format for the whole network."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from gpmt.core.keys import KEY32, KEY64, flat_chunks, key_format_of

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.integers(1, 30), st.randoms())
def test_flat_chunks_follow_the_logical_order(shape, chunk, random):
    tensor = torch.arange(int(np.prod(shape))).reshape(shape)
    axes = list(range(len(shape)))
    random.shuffle(axes)
    permuted = tensor.permute(axes)
    chunks = list(flat_chunks(permuted, chunk))
    assert torch.equal(torch.cat(chunks), permuted.reshape(-1))
    assert all(len(part) <= chunk for part in chunks)


def test_float64_anywhere_widens_all():
    assert key_format_of([torch.ones(1), torch.ones(1, dtype=torch.float16)]) is KEY32
    assert key_format_of([torch.ones(1), torch.ones(1, dtype=torch.float64)]) is KEY64
