import pytest
from tests.report.figures.drawn import inside

from gpmt.report.figures.legends import place_legend
from gpmt.report.figures.sizes import new_figure


@pytest.mark.parametrize("width", ["column", "page", 5])
@pytest.mark.parametrize(
    "labels", [["a"], ["GP", "GP+MT"], [f"method {n}" for n in range(12)], ["x" * 28, "y"]]
)
def test_a_legend_fits_its_figure(width, labels):
    with new_figure(width, 5) as figure:
        axes = figure.subplots()
        for label in labels:
            axes.plot([0, 1], [0, 1], label=label)
        place_legend(figure, axes, "A title")
        assert inside(figure)
        assert figure.get_figheight() > 5 / 2.54


def test_columns_are_as_many_as_fit():
    found = {}
    for width in ("column", "page"):
        with new_figure(width, 5) as figure:
            axes = figure.subplots()
            for label in "abcdefgh":
                axes.plot([0, 1], [0, 1], label=f"method {label}")
            place_legend(figure, axes)
            found[width] = figure.get_figheight() * 2.54
    assert found["page"] < found["column"]


def test_without_labels_the_title_stands_above_the_axes():
    with new_figure("column", 5) as figure:
        axes = figure.subplots()
        place_legend(figure, axes, "A title")
        assert not figure.legends
        assert axes.get_title(loc="left") == "A title"
