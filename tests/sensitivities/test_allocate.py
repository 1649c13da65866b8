from fractions import Fraction
from itertools import pairwise, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpmt.errors import BudgetError
from gpmt.sensitivities.allocate import Cost, allocate, convex


def hull_at(points: list[tuple[int, float]], number: int) -> Fraction:
    """The lower convex hull at a number, by definition: the lowest of all lines between two points around it."""
    exact = [(place, Fraction(cost)) for place, cost in points]
    return min(
        low if a == b else low + (high - low) * Fraction(number - a, b - a)
        for a, low in exact
        for b, high in exact
        if a <= number <= b
    )


@st.composite
def blocks(draw: st.DrawFn) -> Cost:
    size = draw(st.integers(1, 6))
    numbers = draw(st.lists(st.integers(1, size), unique=True, min_size=1, max_size=4))
    values = st.sampled_from([-0.5, 0.0, 0.1, 0.25, 1.0, 1.0, 3.0, 1e-3])
    points = [(0, 0.0), *((number, draw(values)) for number in numbers)]
    return Cost(tuple(points), draw(st.integers(0, max(numbers))))


@settings(max_examples=40)
@given(st.lists(blocks(), min_size=1, max_size=4), st.data())
def test_the_sum_of_the_convex_costs_is_the_smallest_of_all(costs: list[Cost], data: st.DataObject) -> None:
    total = data.draw(st.integers(0, sum(cost.most for cost in costs)))
    chosen = allocate(costs, total)
    assert sum(chosen) == total
    assert all(0 <= number <= cost.most for number, cost in zip(chosen, costs, strict=True))
    tables = [[hull_at(list(cost.points), number) for number in range(cost.most + 1)] for cost in costs]

    def of(numbers: tuple[int, ...] | list[int]) -> Fraction:
        return sum((table[number] for table, number in zip(tables, numbers, strict=True)), Fraction(0))

    every = product(*(range(cost.most + 1) for cost in costs))
    assert of(chosen) == min(of(numbers) for numbers in every if sum(numbers) == total)


@settings(max_examples=25)
@given(st.lists(st.tuples(st.integers(0, 8), st.floats(-1, 1)), min_size=1, max_size=6))
def test_hulls_are_the_lowest_lines(points: list[tuple[int, float]]) -> None:
    hull = convex(points)
    assert hull == sorted(hull)
    assert all(cost == hull_at(points, number) for number, cost in hull)
    slopes = [(d - c) / (b - a) for (a, c), (b, d) in pairwise(hull)]
    assert all(one < other for one, other in pairwise(slopes))
    assert {min(points)[0], max(points)[0]} <= {number for number, _ in hull}


def test_ties_go_to_the_first_block_and_to_the_last_weight() -> None:
    same = Cost(((0, 0.0), (4, 2.0)), 4)
    assert allocate([same, same, same], 7) == [4, 3, 0]
    assert allocate([same, Cost(((0, 0.0), (4, 1.0)), 4), same], 5) == [1, 4, 0]


def test_costs_below_zero_come_first() -> None:
    noisy = Cost(((0, 0.0), (4, -0.1), (8, 1.0)), 8)
    assert allocate([Cost(((0, 0.0), (8, 0.1)), 8), noisy], 4) == [0, 4]


def test_more_than_there_is_is_refused() -> None:
    with pytest.raises(
        BudgetError, match=r"^9 weights are to be pruned, but the blocks may lose 8; ask for fewer, or"
    ):
        allocate([Cost(((0, 0.0), (5, 1.0)), 5), Cost(((0, 0.0), (5, 1.0)), 3)], 9)
