from hypothesis import given, settings
from hypothesis import strategies as st

from gpmt.report.content.pareto import pareto


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=30))
def test_nothing_is_better_than_the_front_and_all_else_is_worse(points):
    front = {points[index] for index in pareto(points)}
    best = {
        (cost, accuracy)
        for cost, accuracy in points
        if not any(c <= cost and a >= accuracy and (c, a) != (cost, accuracy) for c, a in points)
    }
    assert front == best


def test_no_point_has_no_front():
    assert pareto([]) == []
