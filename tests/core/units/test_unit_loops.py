import numpy as np

from gpmt.core.units import unit_loops


def test_magnitudes_are_added_one_after_another():
    rows = np.random.default_rng(0).normal(size=(5, 7, 3)) * 10.0 ** np.arange(7)[:, None]
    expected = 0.0
    for value in rows.reshape(-1).tolist():
        expected += abs(value)
    sums = np.zeros((1, 1, 1, 1))
    unit_loops.add_magnitudes(rows, 4, 9, 1, sums)
    assert sums.item() == expected


def test_a_dimension_that_a_unit_holds_is_not_counted():
    sums, live = np.zeros((2, 4, 1, 1)), np.zeros((2, 4, 1, 1), np.bool_)
    unit_loops.add_magnitudes(np.ones((2, 3, 5)), 1, 2, 1, sums)
    unit_loops.mark_live(np.array([[[False]], [[True]]]), 1, 2, 1, live)
    assert sums[..., 0, 0].tolist() == [[0, 0, 0, 0], [0, 0, 15, 15]]
    assert live[..., 0, 0].tolist() == [[False] * 4, [False, False, False, True]]
