import json
from pathlib import Path

import pytest
from tests.report import examples

from gpmt.errors import FigureError
from gpmt.report.content.report import Report
from gpmt.report.figures.kinds import KINDS, data_of, draw, format_of, plain

RUN = Report("run", subjects=[examples.run()])
GRID = Report("grid", grids=[examples.comparison()])


def report_of(kind: str) -> Report:
    return GRID if kind in ("curve", "pareto") else RUN


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_drawn_the_same_twice_and_its_data_is_json(kind):
    data = data_of(kind, report_of(kind), layer=None, x=None, chance=None)
    assert draw(kind, data, title="A title").rendered("svg") == draw(kind, data, title="A title").rendered(
        "svg"
    )
    text = json.dumps(plain(data), allow_nan=False)
    assert len(text) > 100


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("curv", {}, "there is no figure curv; did you mean curve"),
        ("density", {"layer": "a"}, "--layer belongs to histogram or filters; leave it out for density"),
        ("curve", {"x": "macs"}, "--x belongs to pareto; leave it out for curve"),
        ("training", {"chance": 0.1}, "--chance belongs to curve or pareto"),
        ("pareto", {"x": "mac"}, "--x is 'mac', but must be sparsity, macs, latency"),
        ("density", {"report": GRID}, "runs/compare is no run, plan or file of weights"),
        (
            "histogram",
            {"report": Report("two", subjects=[examples.run(), examples.plan()])},
            "this figure shows one network, but 2 were given; give one path",
        ),
    ],
)
def test_what_cannot_be_drawn_is_said(kind, options, message):
    report = options.pop("report", RUN)
    with pytest.raises(FigureError, match=message):
        data_of(kind, report, **options)


def test_the_name_of_the_file_says_its_format():
    assert [format_of(Path(name)) for name in ("a.svg", "b.PDF", "c.d.png")] == ["svg", "pdf", "png"]
    with pytest.raises(
        FigureError, match=r"a.jpg does not say its format; let its name end in .svg, .pdf or .png"
    ):
        format_of(Path("a.jpg"))
