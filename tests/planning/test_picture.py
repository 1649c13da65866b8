"""A plan in a notebook: its table and its figure have the counts of the plan."""

import sys

import pytest
import torch
from tests.html_reader import HtmlReader
from tests.report.figures.drawn import lines

import gpmt
from gpmt.errors import FigureError


def a_plan() -> gpmt.Plan:
    weights = {
        "a.weight": torch.full((10, 10), 2.0),
        "b<i>.weight": torch.ones(4, 5),
        "c.weight": torch.ones(5, 8) * 3,
    }
    return gpmt.plan(weights, sparsity=0.5, min_kept=3)


def test_the_table_has_the_counts_and_what_decides():
    plan = a_plan()
    rows = HtmlReader(plan._repr_html_()).rows
    assert rows[0] == ["block", "shape", "weights", "kept", "density", "floor", "decided by"]
    assert [(row[0], row[3], row[6]) for row in rows[1:-1]] == [
        ("a.weight", f"{plan.blocks[0].kept}", ""),
        ("b<i>.weight", "3", "floor"),
        ("c.weight", "40", ""),
    ]
    assert rows[-1][:4] == ["total", "", "160", "80"]


def test_empty_blocks_and_warnings_are_told():
    weights = {"a.weight": torch.full((10, 10), 2.0), "b.weight": torch.ones(4, 5)}
    with pytest.warns(gpmt.GpmtWarning):
        plan = gpmt.plan(weights, sparsity=0.5)
    html = plan._repr_html_()
    assert HtmlReader(html).rows[2][6] == "no weight left"
    assert "b.weight" in html.partition("</table>")[2]


def test_the_figure_has_the_densities():
    plan = a_plan()
    figure = plan.figure(width="page", title="A plan")
    drawn = lines(figure)
    assert drawn["floor decides"] == [(3 / 20, 1)]
    assert drawn["threshold decides"] == [(plan.blocks[0].density, 0), (1.0, 2)]
    assert figure.get_figwidth() * 2.54 == pytest.approx(17.5)
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_without_matplotlib_the_table_is_shown_and_the_figure_says_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert "a.weight" in a_plan()._repr_html_()
    with pytest.raises(FigureError, match="matplotlib is not installed; pip install matplotlib brings it"):
        a_plan().figure()
