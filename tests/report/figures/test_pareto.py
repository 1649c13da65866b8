import pytest
from tests.report import examples
from tests.report.figures.drawn import inside, legend, lines

from gpmt.report.content.report import Report
from gpmt.report.figures.pareto import pareto_figure
from gpmt.report.figures.series import accuracies_of


@pytest.mark.parametrize(
    ("x", "label"),
    [("macs", "multiply-accumulates left"), ("latency", "latency (ms)"), ("sparsity", "sparsity")],
)
def test_points_and_front_are_those_given(x, label):
    found = accuracies_of(Report("x", grids=[examples.comparison()]), x)
    figure = pareto_figure(found)
    drawn = lines(figure)
    for number, series in enumerate(found.series):
        assert drawn[f"series-{number}"] == [(point.x, point.y) for point in series.points]
    front = sorted((point.x, point.y) for series in found.series for point in series.points if point.front)
    assert drawn["front"] == front
    ys = [y for _, y in front]
    assert ys == sorted(ys, reverse=x == "sparsity")
    assert figure.axes[0].get_xlabel() == label
    assert "Pareto front" in legend(figure)
    assert inside(figure)
