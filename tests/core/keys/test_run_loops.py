import numpy as np
import pytest

from gpmt.core.keys import run_loops


def slow(keys, length, kept):
    marks = np.zeros(len(keys), bool)
    for start in range(0, len(keys), length):
        order = sorted(range(start, start + length), key=lambda i: (-keys[i], i))
        marks[order[:kept]] = True
    return marks


@pytest.mark.parametrize("length", [1, 2, 4, 16, 17, 64, 255])
@pytest.mark.parametrize("word", [np.int32, np.int64])
@pytest.mark.parametrize("spread", [2, 10**6])
def test_the_largest_of_each_run_are_marked_and_ties_go_to_the_first(length, word, spread):
    random = np.random.default_rng(length)
    keys = random.integers(-spread, spread, 8 * length).astype(word)
    for kept in sorted({0, 1, length // 3, length - 1, length}):
        marks = np.ones(len(keys), bool)
        run_loops.mark(keys, length, kept, marks)
        assert marks.tolist() == slow(keys.tolist(), length, kept).tolist()


def test_keys_in_order_and_all_equal():
    for keys in (np.arange(400), np.arange(400)[::-1].copy(), np.zeros(400, np.int64)):
        marks = np.zeros(400, bool)
        run_loops.mark(keys, 100, 7, marks)
        assert marks.tolist() == slow(keys.tolist(), 100, 7).tolist()
