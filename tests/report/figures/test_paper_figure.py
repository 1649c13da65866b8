"""Figures are the same whatever the user's settings, leave these alone, and are written the same every time."""

import re
import xml.etree.ElementTree as ElementTree

import matplotlib
import pytest

from gpmt.report.figures.paper_figure import PaperFigure, paper_style
from gpmt.report.figures.sizes import new_figure


def drawn() -> PaperFigure:
    with new_figure("column", 4) as figure:
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], gid="line", label="a <b> & $c$ 層")
        axes.set_xlabel("sparsity")
        axes.legend()
    return figure


@pytest.mark.parametrize("kind", ["svg", pytest.param("pdf", marks=pytest.mark.slow), "png"])
def test_files_are_the_same_every_time(kind):
    assert drawn().rendered(kind) == drawn().rendered(kind)


def test_settings_of_the_user_are_neither_used_nor_changed():
    expected = drawn().rendered("svg")
    mine = {"font.size": 20, "svg.fonttype": "path", "axes.grid": False, "lines.linewidth": 9}
    with matplotlib.rc_context(mine):
        before = dict(matplotlib.rcParams)
        assert drawn().rendered("svg") == expected
        assert dict(matplotlib.rcParams) == before


def test_an_svg_has_texts_as_they_are_and_is_well_formed():
    root = ElementTree.fromstring(drawn().rendered("svg"))
    texts = ["".join(node.itertext()) for node in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "sparsity" in texts
    assert "a <b> & $c$ 層" in texts
    assert float(root.get("width").removesuffix("pt")) == pytest.approx(8.5 / 2.54 * 72)


@pytest.mark.slow
def test_a_pdf_has_its_fonts_in_it_as_type_42():
    content = drawn().rendered("pdf")
    assert b"/FontFile2" in content
    assert b"/Type3" not in content
    assert b"CreationDate" not in content


def test_fonts_are_of_a_size_for_papers():
    svg = drawn().rendered("svg").decode()
    assert {float(size) for size in re.findall(r"font: ([\d.]+)px", svg)} <= {7.0, 8.0}


def test_savefig_writes_what_rendered_gives(tmp_path):
    drawn().savefig(tmp_path / "a.svg")
    assert (tmp_path / "a.svg").read_bytes() == drawn().rendered("svg")


def test_a_notebook_shows_it():
    assert drawn()._repr_png_().startswith(b"\x89PNG")


def test_the_style_ends_with_its_block():
    before = dict(matplotlib.rcParams)
    with paper_style():
        assert matplotlib.rcParams["pdf.fonttype"] == 42
    assert dict(matplotlib.rcParams) == before
