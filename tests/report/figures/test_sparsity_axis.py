import itertools

import pytest
from tests.report.figures.drawn import ticks

from gpmt.report.figures.sizes import new_figure
from gpmt.report.figures.sparsity_axis import set_up_sparsities


def axes_of(sparsities):
    with new_figure("column", 5) as figure:
        axes = figure.subplots()
        axes.plot(sparsities, [0.5] * len(sparsities))
        set_up_sparsities(axes, sparsities, 2.7)
        figure.draw_without_rendering()
    return axes


def test_sparsities_near_one_are_spread():
    axes = axes_of([0.5, 0.8, 0.9, 0.95, 0.98])
    assert axes.get_xscale() == "function"
    assert ticks(axes.xaxis) == ["50 %", "80 %", "90 %", "95 %", "98 %"]
    # Equal ratios of densities are equally far apart.
    ends = axes.transData.transform([(0.5, 0), (0.75, 0), (0.875, 0)])[:, 0]
    assert ends[1] - ends[0] == pytest.approx(ends[2] - ends[1])


def test_a_narrow_range_is_linear():
    axes = axes_of([0.5, 0.6, 0.7])
    assert axes.get_xscale() == "linear"
    assert ticks(axes.xaxis) == ["50 %", "60 %", "70 %"]


@pytest.mark.parametrize(
    "sparsities", [[0.9], [0.0], [1.0], [0.0, 1.0], [0.9, 0.9], [n / 100 for n in range(100)]]
)
def test_all_points_are_within_the_axis(sparsities):
    low, high = axes_of(sparsities).get_xlim()
    assert low <= min(sparsities)
    assert max(sparsities) <= high + 1e-8


def test_ticks_do_not_touch():
    axes = axes_of([0.9 + n / 1000 for n in range(11)])
    boxes = [label.get_window_extent() for label in axes.get_xticklabels()]
    assert len(boxes) > 2
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))


def test_counted_sparsities_are_labelled_as_asked():
    axes = axes_of([0.799993, 0.899996, 0.949989])
    assert ticks(axes.xaxis) == ["80 %", "90 %", "95 %"]
