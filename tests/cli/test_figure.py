import json
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import torch
from tests.cli.commands import error, gpmt
from tests.report.folders import write_run

import gpmt as package


@pytest.fixture
def plan() -> str:
    weights = {"a.weight": torch.arange(1.0, 101).view(10, 10), "b.weight": torch.ones(4, 5)}
    package.plan(weights, sparsity=0.5, min_kept=3).save("plan.json")
    return "plan.json"


def test_a_figure_is_written_and_is_the_same_every_time(plan: str) -> None:
    assert gpmt("figure", "density", plan, "-o", "a.svg").stdout == "wrote a.svg\n"
    gpmt("figure", "density", plan, "-o", "b.svg")
    assert Path("a.svg").read_bytes() == Path("b.svg").read_bytes()
    texts = [
        "".join(node.itertext()) for node in ElementTree.parse("a.svg").iter() if node.tag.endswith("text")
    ]
    assert {"a.weight", "b.weight", "floor decides"} <= set(texts)


def test_json_is_the_data_that_is_drawn(plan: str) -> None:
    document = json.loads(gpmt("figure", "density", plan, "--json").stdout)
    [density] = document["data"]
    assert [(block["name"], block["kept"], block["binds"]) for block in density["blocks"]] == [
        ("a.weight", 57, False),
        ("b.weight", 3, True),
    ]
    assert document["output"] is None


def test_width_title_and_format(plan: str) -> None:
    gpmt("figure", "density", plan, "-o", "a.png", "--width", "12", "--title", "A plan", "-q")
    content = Path("a.png").read_bytes()
    assert content.startswith(b"\x89PNG")
    assert int.from_bytes(content[16:20], "big") == pytest.approx(12 / 2.54 * 300, abs=1)


def test_training_of_a_run() -> None:
    write_run(Path("run"))
    document = json.loads(gpmt("figure", "training", "run", "--json", "-o", "t.svg").stdout)
    assert document["output"] == "t.svg"
    assert document["data"][0]["curves"]["test_top1"]
    assert Path("t.svg").exists()


NO_FORMAT = "does not say its format; let its name end in .svg, .pdf or .png"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("density",), "give -o, such as -o figure.svg, or --json for the data"),
        (("densty", "-o", "x.svg"), "there is no figure densty; did you mean density?"),
        (("density", "-o", "x.gif"), f"x.gif {NO_FORMAT}"),
        (("density", "none.json", "-o", "x.svg"), "none.json does not exist; check the path"),
        (("density", "-o", "plan.json"), f"plan.json {NO_FORMAT}"),
        (
            ("curve", "-o", "x.svg", "--chance", "2"),
            "chance is 2, but must be a share from 0 to 1, such as 10%",
        ),
        (
            ("density", "-o", "x.svg", "--width", "x"),
            "the width is 'x', but must be column, page, or 4 to 60 cm, such as 12",
        ),
        (
            ("curve", "-o", "x.svg"),
            "no accuracy is known of plan.json; give runs, sweeps or comparisons that have finished runs",
        ),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_written(
    plan: str, arguments: tuple[str, ...], message: str
) -> None:
    kind, *others = arguments
    assert error("figure", kind, plan, *others) == message
    assert not Path("x.svg").exists()


def test_a_figure_is_replaced_only_when_asked(plan: str) -> None:
    Path("x.svg").write_text("mine")
    assert error("figure", "density", plan, "-o", "x.svg") == (
        "x.svg exists; give another name, or --force to replace it"
    )
    assert Path("x.svg").read_text() == "mine"
    gpmt("figure", "density", plan, "-o", "x.svg", "-f")
    assert Path("x.svg").read_text() != "mine"


def test_without_matplotlib_one_sentence_and_the_data(plan: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert error("figure", "density", plan, "-o", "x.svg") == (
        "matplotlib is not installed; pip install matplotlib brings it, pip install '.[report]' in gpmt's folder all "
        "of report"
    )
    assert not Path("x.svg").exists()
    assert json.loads(gpmt("figure", "density", plan, "--json").stdout)["data"]
