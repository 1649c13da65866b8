from gpmt.report.page.picture import COLOURS, colours, faint, shortened, text
from gpmt.report.palette import DARK, LIGHT, style


def test_every_colour_that_figures_name_is_in_both_themes():
    named = {value for value in vars(COLOURS).values() if isinstance(value, str)} | set(COLOURS.series)
    for palette in (LIGHT, DARK):
        assert colours(palette).keys() == named
        assert all(len(value) == 7 and value.startswith("#") for value in colours(palette).values())
    assert style(0, COLOURS).colour == "@series0"
    assert faint(COLOURS.dead, 0.5) == "@dead/0.5"


def test_labels_have_no_markup_however_they_are_cut():
    assert text("<b>a</b>") == "&lt;b&gt;a&lt;/b&gt;"
    assert shortened("abcdefgh", 4) == "…fgh"
    name = "x" * 20 + "<a href='https://example.org'>"
    for length in range(2, 60):
        assert "<" not in shortened(name, length)
