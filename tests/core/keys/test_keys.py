"""Keys of weights in flat order, in one format for the whole network."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from gpmt.core.keys import device_keys
from gpmt.core.keys.keys import (
    KEY32,
    KEY64,
    SCORE32,
    SCORE64,
    MagnitudeKeys,
    ScoreKeys,
    every_nth,
    flat_chunks,
    key_format_of,
    key_value,
    score_format_of,
)

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


def test_scores_of_float64_widen_all():
    assert score_format_of([torch.ones(1), torch.ones(1, dtype=torch.bfloat16)]) is SCORE32
    assert score_format_of([torch.ones(1), torch.ones(1, dtype=torch.float64)]) is SCORE64


@given(st.floats(allow_nan=False, width=16), st.sampled_from(DTYPES))
def test_a_score_is_the_value_of_its_key(value, dtype):
    scores = torch.tensor([value], dtype=dtype)
    for key_format in (score_format_of([scores]), SCORE64):
        [chunk] = ScoreKeys("w", scores, key_format).chunks()
        assert key_value(int(device_keys.keys_of(chunk, key_format)), key_format) == scores.item()


@given(st.integers(0, 40), st.integers(1, 9), st.lists(st.integers(0, 12), max_size=8))
def test_every_nth_goes_on_from_chunk_to_chunk(first, every, sizes):
    joined = torch.arange(sum(sizes))
    found = [chunk.tolist() for chunk in every_nth(torch.split(joined, sizes), first, every)]
    assert [key for chunk in found for key in chunk] == joined[first::every].tolist()


def test_a_sample_is_taken_of_any_memory_format():
    tensor = torch.rand(4, 6, 5, 3)
    for view in (tensor, tensor.to(memory_format=torch.channels_last), tensor[:, 1:5], tensor.half().mT):
        keys = torch.cat([*MagnitudeKeys("w", view, KEY32).sample(2, 3)])
        assert len(keys) == len(range(2, view.numel(), 3))
        every = torch.cat([*MagnitudeKeys("w", view, KEY32).chunks()])
        assert set(keys.tolist()) <= set(every.tolist())


def test_tensors_are_read_in_place_only_where_they_hold_their_keys():
    class Own(torch.Tensor):
        pass

    weights = torch.ones(4, 6)
    assert MagnitudeKeys("w", weights, KEY32).stored() is not None
    assert MagnitudeKeys("w", weights.bfloat16(), KEY32).stored() is not None
    for other in (weights.T, weights.half(), weights.double(), weights.as_subclass(Own)):
        assert MagnitudeKeys("w", other, KEY32).stored() is None
    assert MagnitudeKeys("w", weights.bfloat16(), KEY64).stored() is None
