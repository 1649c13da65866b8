import pytest

from gpmt.core.scope.tensor_count import TensorCount


def count(kept: int, live: int) -> TensorCount:
    return TensorCount("a.weight", "Linear", (40, 5), 200, kept, 0, 40, live)


@pytest.mark.parametrize(
    ("kept", "live", "dead", "collapsed"),
    [(0, 0, True, False), (3, 3, False, True), (4, 4, False, False), (200, 40, False, False)],
)
def test_fewer_than_a_tenth_of_the_outputs_is_a_collapse(kept: int, live: int, dead: bool, collapsed: bool):
    assert (count(kept, live).dead, count(kept, live).collapsed) == (dead, collapsed)


def test_density_and_unit():
    assert count(50, 40).density == 0.25
    assert count(50, 40).to_dict(unit="columns")["columns"] == 200
    assert TensorCount("a", "Linear", (0, 5), 0, 0, 0, 0, 0).density == 1.0
