import sys

import pytest

from gpmt.errors import FigureError
from gpmt.report.figures.sizes import centimetres, new_figure, printable, shortened


@pytest.mark.parametrize(
    ("width", "expected"),
    [("column", 8.5), ("page", 17.5), (12, 12), ("12", 12), ("12.5cm", 12.5), ("4 cm", 4)],
)
def test_widths(width, expected):
    assert centimetres(width) == expected


@pytest.mark.parametrize("width", ["", "wide", "0", "-3", "3.9", "61", "1e1", "nan", "12 mm"])
def test_other_widths_are_refused(width):
    message = rf"the width is '{width}', but must be column, page, or 4 to 60 cm, such as 12"
    with pytest.raises(FigureError, match=message):
        centimetres(width)


def test_a_figure_has_exactly_its_width():
    with new_figure("column", 5) as figure:
        assert figure.get_size_inches() * 2.54 == pytest.approx([8.5, 5])


def test_no_figure_is_taller_than_a_page():
    with new_figure("page", 500) as figure:
        assert figure.get_figheight() * 2.54 == pytest.approx(24)


def test_without_matplotlib_one_sentence_says_what_brings_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    expected = (
        r"^matplotlib is not installed; pip install matplotlib brings it, "
        r"pip install '\.\[report\]' in gpmt's folder all of report$"
    )
    with pytest.raises(FigureError, match=expected), new_figure("column", 5):
        pass


@pytest.mark.parametrize("length", [1, 2, 3, 8, 21, 40])
def test_short_names_keep_their_ends(length):
    name = "layer3.2.conv2.weight"
    short = shortened(name, length)
    assert len(short) == min(length, len(name))
    head, _, tail = short.partition("…")
    assert name.startswith(head)
    assert name.endswith(tail)


def test_characters_that_no_file_can_hold_are_replaced():
    assert printable("a\x00b\u2028c\td é 層") == "a\ufffdb\ufffdc\ufffdd é 層"
