import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.report import examples
from tests.report.figures.drawn import inside, legend

from gpmt.errors import FigureError
from gpmt.report.content.subject import ChannelMap
from gpmt.report.figures.filters import filters_figure, filters_of, runs


def bars(axes, gid: str):
    """Return (middle, start, length) of each box of a collection."""
    [collection] = [each for each in axes.collections if each.get_gid() == gid]
    boxes = [path.get_extents() for path in collection.get_paths()]
    return [((box.y0 + box.y1) / 2, box.x0, box.width) for box in boxes]


def test_zero_filters_are_marked_where_they_are():
    figure = filters_figure(filters_of(examples.run()))
    left, right = figure.axes
    assert bars(left, "dead") == [
        pytest.approx(bar) for bar in [(0, 0, 1 / 16), (1, 0, 1), (2, 0, 216 / 256)]
    ]
    assert bars(right, "dead") == [
        pytest.approx(bar) for bar in [(1, 0, 1), (2, 1 / 16, 1 / 16), (2, 15 / 16, 1 / 16)]
    ]
    assert [text.get_text() for text in left.texts] == ["1/16", "16/16", "216/256"]
    assert legend(figure) == ["has weights", "all zero"]
    assert inside(figure)


@settings(max_examples=50, deadline=None)
@given(st.sets(st.integers(0, 30)))
def test_runs_are_the_places_joined(places):
    found = runs(sorted(places))
    assert [place for first, length in found for place in range(first, first + length)] == sorted(places)
    assert all(a + b < c for (a, b), (c, _) in itertools.pairwise(found))


def test_one_tensor_and_all_alive():
    found = filters_of(examples.run(), "stem.weight")
    assert [each.tensor for each in found] == ["stem.weight"]
    alive = filters_of(examples.run(channels=[ChannelMap("a", (1,), (1,))]))
    assert legend(filters_figure(alive)) == ["has weights"]


def test_500_tensors():
    maps = [ChannelMap(f"layer{n}.weight", (n % 2, 1), (1, n % 3)) for n in range(500)]
    figure = filters_figure(filters_of(examples.run(channels=maps)))
    assert len(bars(figure.axes[0], "dead")) == 250
    assert figure.get_figheight() * 2.54 <= 24
    assert inside(figure)


def test_what_is_missing_is_named():
    with pytest.raises(FigureError, match=r"plan.json has no map of filters to draw"):
        filters_of(examples.plan())
    with pytest.raises(FigureError, match=r"did you mean stem.weight"):
        filters_of(examples.run(), "stm.weight")
