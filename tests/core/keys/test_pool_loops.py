"""The loops over collected keys, against the same in Python."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gpmt.core.keys import pool_loops

LISTS = st.lists(st.lists(st.integers(-5, 5), max_size=40), min_size=1, max_size=4)


def pool_of(lists):
    lengths = np.array([len(values) for values in lists], np.int64)
    keys = np.array([key for values in lists for key in values], np.int32)
    return keys, np.cumsum(lengths) - lengths, lengths


@settings(deadline=None)
@given(st.lists(st.integers(-5, 5), min_size=1, max_size=40), st.data())
def test_the_largest_come_first(values, data):
    keys = np.array([9, *values, 9], np.int32)
    rank = data.draw(st.integers(1, len(values)))
    pool_loops.select_largest(keys, 1, len(values) + 1, rank)
    assert keys[0] == keys[-1] == 9
    found, ordered = keys[1:-1].tolist(), sorted(values, reverse=True)
    assert sorted(found[: rank - 1], reverse=True) == ordered[: rank - 1]
    assert found[rank - 1] == ordered[rank - 1]
    assert sorted(found, reverse=True) == ordered


@given(LISTS)
def test_keys_are_counted_by_source(lists):
    counts = np.empty(len(lists), np.int64)
    pool_loops.count_inside(*pool_of(lists), -3, 4, counts)
    assert counts.tolist() == [sum(-3 <= key < 4 for key in values) for values in lists]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(-5, 5), max_size=40), min_size=1, max_size=4), st.data())
def test_outside_leaves_out_the_largest_of_each_array(lists, data):
    keys, offsets, lengths = pool_of(lists)
    take = np.array([data.draw(st.integers(-2, len(values) + 1)) for values in lists], np.int64)
    out = np.empty_like(keys)
    count = pool_loops.outside(keys, offsets, lengths, -3, 4, take, out)
    expected = []
    for values, number in zip(lists, take.tolist(), strict=True):
        expected += sorted((value for value in values if -3 <= value < 4), reverse=True)[max(0, number) :]
    assert sorted(out[:count].tolist()) == sorted(expected)
