"""The problem that allocations solve, and what the base class makes of counts."""

from fractions import Fraction

import pytest
import torch

from gpmt.core.selection.allocation import CountAllocation, Problem
from gpmt.errors import WeightsError

TENSORS = {"a": torch.tensor([[3.0, -1.0, 2.0], [0.0, 5.0, 4.0]]), "b": torch.tensor([[1.0, -6.0]])}

SHAPES = [(2, 3), (1, 2)]


class Fixed(CountAllocation):
    """The same counts whatever the total."""

    def counts(self, problem):
        return [[2, 1] for _ in problem.totals]


def test_sizes_and_totals_are_exact():
    problem = Problem(TENSORS, SHAPES, [Fraction(3, 8), Fraction(1, 3)], [3, 2])
    assert (problem.sizes, problem.totals) == ([6, 2], [5, 6])


def test_counts_become_cuts_at_the_largest_magnitudes():
    method, problem = Fixed(), Problem(TENSORS, SHAPES, [Fraction(5, 8)], [1, 1])
    sources, key_format = method.keys(TENSORS)
    [selection] = method.select(problem, sources, key_format)
    assert selection.key is None
    assert [(cut.kept, cut.ties, cut.binds) for cut in selection.cuts] == [(2, 1, False), (1, 1, True)]
    values = torch.tensor([cut.key for cut in selection.cuts], dtype=torch.int32).view(torch.float32)
    assert values.tolist() == [4.0, 6.0]


def test_weights_without_data_have_no_keys():
    with pytest.raises(WeightsError, match="a has no data"):
        Fixed().keys({"a": torch.ones(3, device="meta")})
