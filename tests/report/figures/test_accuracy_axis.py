from tests.report.figures.drawn import lines

from gpmt.report.content.grid import Spread
from gpmt.report.figures.accuracy_axis import dead_points, draw_references, draw_series, set_up_accuracies
from gpmt.report.figures.series import Accuracies, Point, Series
from gpmt.report.figures.sizes import new_figure

POINTS = (Point(0.8, 0.9, 0.1, 3), Point(0.9, 0.2, None, 1, dead=2))


def test_lines_bars_references_and_dead_points():
    found = Accuracies("sparsity", "pruned", (Series("GP", POINTS),), Spread(0.97), 0.1)
    with new_figure("column", 5) as figure:
        axes = figure.subplots()
        draw_series(axes, found)
        dead_points(axes, found)
        draw_references(axes, found)
        set_up_accuracies(axes, found)
    drawn = lines(figure)
    assert drawn["series-0"] == [(0.8, 0.9), (0.9, 0.2)]
    assert drawn["dead"] == [(0.9, 0.2)]
    assert {y for _, y in drawn["dense"]} == {0.97}
    assert {y for _, y in drawn["chance"]} == {0.1}
    [bars] = [each for each in axes.collections if len(each.get_segments()) == 2]
    assert [segment[:, 1].tolist() for segment in bars.get_segments()] == [[0.8, 1.0], [0.2, 0.2]]
    low, high = axes.get_ylim()
    assert low < 0.1
    assert high > 1.0
    assert axes.get_ylabel() == "top-1 after pruning"
