from hypothesis import given, settings
from hypothesis import strategies as st

from gpmt.core.selection.share import share


@settings(max_examples=200)
@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(1, 60), st.integers(0, 60)), min_size=1, max_size=6),
    st.data(),
)
def test_shares_are_exact_clipped_and_in_proportion(rows, data):
    weights = [weight for weight, _, _ in rows]
    sizes = [size for _, size, _ in rows]
    floors = [min(floor, size) if weight else size for weight, size, floor in rows]
    total = data.draw(st.integers(sum(floors), sum(sizes)))
    parts = share(weights, sizes, total, floors)
    assert sum(parts) == total
    assert all(floor <= part <= size for floor, part, size in zip(floors, parts, sizes, strict=True))
    scales = [p / w for w, p, f, s in zip(weights, parts, floors, sizes, strict=True) if f < p < s]
    slack = max((1 / w for w in weights if w), default=0)
    assert not scales or max(scales) - min(scales) <= 2 * slack
