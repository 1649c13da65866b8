"""The picture of the README is what its command draws from the files beside it."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import matplotlib

from gpmt.report.content.read import read_report
from gpmt.report.figures.kinds import data_of, draw

ROOT = Path(__file__).parents[3]


def texts(svg: bytes) -> list[str]:
    root = ElementTree.fromstring(svg)
    return ["".join(node.itertext()) for node in root.iter() if node.tag.endswith("}text")]


def test_the_picture_is_drawn_from_its_data():
    picture = (ROOT / "docs/images/collapse.svg").read_bytes()
    data = data_of("curve", read_report([ROOT / "docs/results/demo"]), chance=0.1)
    drawn = draw("curve", data, width=14).rendered("svg")
    assert texts(drawn) == texts(picture)
    if f"Matplotlib v{matplotlib.__version__}".encode() in picture:
        assert drawn == picture


def test_it_shows_the_collapse_and_the_rescue():
    data = data_of("curve", read_report([ROOT / "docs/results/demo"]))
    lines = {series.label: {round(p.x, 2): p.y for p in series.points} for series in data.series}
    assert lines["GP"][0.93] < 0.2
    assert lines["GP+MT"][0.93] > 0.95
