from dataclasses import replace

import pytest
from tests.report import examples
from tests.report.figures.drawn import inside, legend, lines, ticks

from gpmt.report.content.report import Report
from gpmt.report.figures.curve import curve_figure
from gpmt.report.figures.series import accuracies_of


def test_lines_are_the_cells_of_each_method():
    grid = examples.comparison()
    figure = curve_figure(accuracies_of(Report("x", grids=[grid]), "sparsity", chance=0.1))
    drawn = lines(figure)
    for number, name in enumerate(("GP", "GP+MT")):
        floor = "60" if name == "GP+MT" else ""
        cells = [cell for cell in grid.cells if cell.method == "GP" and cell.floor == floor]
        assert drawn[f"series-{number}"] == [(cell.sparsity.mean, cell.finetuned.mean) for cell in cells]
    assert set(drawn["dead"]) == {(c.sparsity.mean, c.finetuned.mean) for c in grid.cells if c.dead}
    assert legend(figure)[:2] == ["GP", "GP+MT"]
    assert legend(figure)[-3:] == ["a layer has no weight left", "dense", "chance"]
    assert ticks(figure.axes[0].xaxis) == ["50 %", "80 %", "90 %", "95 %", "98 %"]
    assert inside(figure)


@pytest.mark.parametrize("width", ["column", "page"])
def test_one_point(width):
    grid = replace(examples.sweep(), cells=examples.sweep().cells[:1])
    figure = curve_figure(accuracies_of(Report("x", grids=[grid]), "sparsity"), width=width, title="One")
    assert lines(figure)["series-0"] == [(0.5, 0.965)]
    assert inside(figure)
