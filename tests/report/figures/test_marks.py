from matplotlib.lines import Line2D

from gpmt.report.figures.marks import MATPLOTLIB_DASHES, MATPLOTLIB_MARKERS, line_look
from gpmt.report.palette import DASHES, MARKERS, style


def test_every_dash_and_marker_has_its_own_form():
    assert set(MATPLOTLIB_DASHES) == set(DASHES)
    assert len(set(MATPLOTLIB_DASHES.values())) == len(DASHES)
    assert set(MATPLOTLIB_MARKERS) == set(MARKERS)
    assert len(set(MATPLOTLIB_MARKERS.values())) == len(MARKERS)


def test_matplotlib_takes_the_looks():
    for number in range(12):
        line = Line2D([0], [0], **line_look(style(number)))
        assert line.get_color() == style(number).colour
