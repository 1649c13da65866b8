import re

import pytest

from gpmt.html_tables import SHOWN, Share, html_table
from tests.html_reader import HtmlReader


def test_cells_are_those_given():
    html = html_table(["name", "kept", "density"], [["a", 1234, Share(0.5)]], total=["total", 1, Share(1.0)])
    assert HtmlReader(html).rows == [
        ["name", "kept", "density"],
        ["a", "1,234", "50.000\xa0% "],
        ["total", "1", "100.000\xa0% "],
    ]
    assert "width:2.5em" in html


HOSTILE = "<script>alert('x')</script>&\"q\""


def test_markup_is_escaped_everywhere():
    html = html_table([HOSTILE], [[HOSTILE]], title=HOSTILE, notes=[HOSTILE], total=[HOSTILE])
    reader = HtmlReader(html)
    assert reader.rows == [[HOSTILE]] * 3
    assert reader.tags <= {"div", "p", "b", "table", "thead", "tbody", "tr", "th", "td"}


@pytest.mark.parametrize("count", [0, 1, SHOWN, SHOWN + 1, 10_000])
def test_long_tables_are_shortened(count):
    rows = HtmlReader(html_table(["n"], [[f"row {number}"] for number in range(count)])).rows[1:]
    if count <= SHOWN:
        assert [row for [row] in rows] == [f"row {number}" for number in range(count)]
    else:
        assert len(rows) == SHOWN + 1
        assert rows[SHOWN - 10] == [f"… {count - SHOWN:,} more …"]
        assert rows[-1] == [f"row {count - 1}"]


def test_it_has_no_colour_of_text_or_page():
    html = html_table(["name", "density"], [["a", Share(0.1)]], title="t", total=["b", Share(1.0)])
    assert re.findall(r"(?:^|[;\"])color:", html) == []
    assert html.count("background") == 2
