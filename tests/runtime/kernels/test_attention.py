"""Attention on vectors against softmax in float64, between guard pages."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.runtime.kernels.drawing import LANES, SIDES, random_values
from tests.runtime.kernels.guarded import Buffer, backwards, run

from gpmt.runtime.kernels.attention import AttentionKernel, MaskLayout
from gpmt.runtime.layout.planes import Planes


def exact(query, key, value, scale, added, causal):
    """Return attention of [samples, heads, tokens, size] in float64; queries that see nothing get zeros."""
    query, key, value = (part.astype(np.float64) for part in (query, key, value))
    scores = scale * np.einsum("bhid,bhjd->bhij", query, key)
    if added is not None:
        scores = scores + np.tile(added, (len(query) // len(added), 1, 1, 1))
    if causal:
        scores = np.where(np.tri(*scores.shape[2:], dtype=bool), scores, -np.inf)
    with np.errstate(invalid="ignore"):
        powers = np.exp(scores - scores.max(3, keepdims=True))
        shares = np.nan_to_num(powers / powers.sum(3, keepdims=True))
    return np.einsum("bhij,bhjd->bhid", shares, value)


def planes_of(values):
    """Return [samples, heads, tokens, size] as images with the layout of vectors."""
    return np.ascontiguousarray(values.transpose(1, 3, 0, 2)).reshape(1, -1, 1, len(values) * values.shape[2])


def check(
    lanes, side, samples, heads, queries, keys, size, mask=None, causal=False, same=False, arg="mask"
):  # fmt: skip
    shapes = [(samples, heads, count, size) for count in (queries, keys, keys)]
    query, key, value = (random_values(i, *shape) for i, shape in enumerate(shapes))
    before = 3 if same else 0  # features of something else before those of query, key and value

    def buffer(values):
        images = planes_of(values)
        wide = np.concatenate([np.full((1, before, *images.shape[2:]), 7, np.float32), images], axis=1)
        layout = Planes(*wide.shape, wide.shape[3], 0)
        return layout, Buffer(layout, wide, side)

    (first, q), (second, k), (third, v) = map(buffer, (query, key, value))
    output = Planes(1, heads * size, 1, samples * queries, samples * queries, 0)
    layouts, added = {}, None
    args = {"query": q.channel(before), "key": k.channel(before), "value": v.channel(before)}
    args |= {"mask": 0, "bias": 0}
    if mask is not None:
        added = random_values(5, *mask, keys) * 2
        added[..., keys // 2] = -np.inf
        columns = int(np.prod(mask))
        room = Planes(1, keys, 1, columns, columns, 0)
        args[arg] = Buffer(room, np.ascontiguousarray(added.reshape(columns, keys).T)[None, :, None, :], side)
        layouts[arg] = MaskLayout(room.plane_bytes, *mask)
    result = Buffer(output, at=side)
    spec = AttentionKernel(lanes, first, second, third, output, samples, heads, 0.3, causal=causal, **layouts)
    run(spec, args | {"output": result}, backwards(spec))
    result.check(planes_of(exact(query, key, value, 0.3, added, causal)).astype(np.float32), tolerance=1e-6)


TOKENS = st.integers(1, 20) | st.integers(1, 70)


@settings(max_examples=8)
@given(LANES, SIDES, st.integers(1, 3), st.integers(1, 3), TOKENS, TOKENS, st.integers(1, 17), st.booleans())
def test_equals_softmax(lanes, side, samples, heads, queries, keys, size, same):
    check(lanes, side, samples, heads, queries, keys, size, same=same)


@settings(max_examples=8)
@given(LANES, st.integers(1, 2), st.integers(1, 3), TOKENS, TOKENS, st.data())
def test_masks(lanes, samples, heads, queries, keys, data):
    mask = tuple(data.draw(st.sampled_from([1, most])) for most in (samples, heads, queries))
    check(
        lanes,
        "end",
        samples,
        heads,
        queries,
        keys,
        5,
        mask=mask,
        arg=data.draw(st.sampled_from(["mask", "bias"])),
    )


@pytest.mark.parametrize("lanes", [4, 8, 16])
@pytest.mark.parametrize("tokens", [1, 16, 41])
def test_causal(lanes, tokens):
    check(lanes, "end", 1, 2, tokens, tokens, 8, causal=True)
    check(lanes, "end", 2, 1, tokens, tokens, 8, causal=True)


def test_queries_that_see_nothing_get_zeros():
    check(16, "end", 1, 2, 5, 1, 4, mask=(1, 1, 5))


def test_many_keys_take_tiles_of_one_vector():
    check(16, "end", 1, 1, 64, 1500, 4)


def test_large_scores_do_not_overflow():
    vectors = Planes(1, 2, 1, 16, 16, 0)
    values = 100 * random_values(0, 1, 1, 16, 2)
    result = Buffer(vectors)
    same = {name: Buffer(vectors, planes_of(values)) for name in ("query", "key", "value")}
    run(AttentionKernel(16, *[vectors] * 4, 1, 1, 1.0), same | {"output": result, "mask": 0, "bias": 0})
    expected = planes_of(exact(values, values, values, 1.0, None, causal=False))
    result.check(expected.astype(np.float32), tolerance=1e-5)
