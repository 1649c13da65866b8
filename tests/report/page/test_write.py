import base64
import gzip
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from tests.report import examples

from gpmt.errors import CheckpointError, ReportError
from gpmt.report.content.report import Report
from gpmt.report.content.subject import Epoch
from gpmt.report.page import write
from gpmt.report.page.write import page, write_page

HOSTILE = "</script><script>alert(1)</script>"


class Elements(HTMLParser):
    """The elements of a page, the text of its scripts, and all other text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self.scripts += [""] if tag == "script" else []

    def handle_data(self, data: str) -> None:
        if self.found and self.found[-1][0] == "script":
            self.scripts[-1] += data
        self.words.append(data)

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture(scope="module")
def everything() -> str:
    return page(examples.report())


def test_sections_are_in_their_order(everything: str):
    found = [attributes["id"] for attributes in Elements(everything).of("section") if "id" in attributes]
    assert found == [
        *("summary", "density", "histograms", "channels", "curves", "side-by-side", "accuracy", "recipe"),
        "checklist",
    ]


def test_the_file_loads_nothing(everything: str):
    elements = Elements(everything)
    for tag, attributes in elements.found:
        assert tag not in ("link", "img", "iframe", "object")
        assert "src" not in attributes
        assert (attributes.get("href") or "#").startswith("#")
    (policy,) = [meta for meta in elements.of("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert (policy["content"] or "").startswith("default-src 'none'; script-src 'nonce-")


def test_every_figure_has_words_and_a_table(everything: str):
    elements = Elements(everything)
    figures = len(elements.of("figure"))
    assert figures == len(elements.of("figcaption"))
    plots = [one for one in elements.of("div") if one.get("class") == "plot"]
    assert len(plots) == figures
    assert all(len(one.get("aria-label") or "") > 30 for one in plots)
    assert everything.count("The numbers as a table") == figures


def test_what_was_asked_is_in_the_summary(everything: str):
    for words in (
        "Collapsed",
        "Not finished",
        "7,200 of 8,000 prunable weights pruned",
        "3.82 times as fast",
    ):
        assert words in everything


def test_markup_in_names_is_text_everywhere():
    run = examples.run()
    names = [replace(layer, name=HOSTILE, tensor=HOSTILE) for layer in run.layers]
    run = replace(
        run, title=HOSTILE, path=HOSTILE, layers=names, recipe={HOSTILE: HOSTILE}, commands=[HOSTILE]
    )
    run = replace(run, warnings=[HOSTILE], missing=[HOSTILE], scope=HOSTILE, asked=HOSTILE)
    text = page(Report(HOSTILE, [run, run], [examples.comparison()], [HOSTILE]))
    assert HOSTILE not in text
    plain = page(Report("plain", [examples.run(), examples.run()], [examples.comparison()], ["x"]))
    assert len(Elements(text).of("script")) == len(Elements(plain).of("script"))
    assert HOSTILE in "".join(Elements(text).words)


def test_data_is_json_and_large_data_is_compressed():
    elements = Elements(page(Report("many", [examples.many_layers()])))
    scripts = list(zip(elements.of("script"), elements.scripts, strict=True))
    packed = [text for one, text in scripts if one.get("type") == "application/gzip" and "id" not in one]
    document = json.loads(gzip.decompress(base64.b64decode(packed[0])))
    assert len(document["views"][0]["table"]["rows"]) == 10_000
    for one, text in scripts:
        if one.get("type") == "application/json":
            json.loads(text)


def test_numbers_that_json_does_not_have_are_left_out():
    history = [*examples.history(), Epoch("finetune", 6, {"test_loss": float("nan"), "test_top1": 0.1})]
    elements = Elements(page(Report("one", [examples.run(history=history)])))
    data = [
        text for one, text in zip(elements.of("script"), elements.scripts, strict=True) if "json" in str(one)
    ]
    assert len(data) == 4
    assert not any("NaN" in text for text in data)


def test_runs_of_one_recipe_are_told_apart_by_their_folders():
    text = page(Report("two", [examples.run(), replace(examples.run(), path="runs/other")]))
    titles = re.findall(r"<h3>(\S+) <span class=\"kind\">", text)
    assert titles == ["gp-mt", "other"]


def test_plotly_is_in_it_only_where_something_is_drawn():
    assert len(page(examples.report())) < 6_000_000
    assert len(page(Report("nothing", problems=["runs/a does not exist"]))) < 60_000
    assert "runs/a does not exist" in page(Report("nothing", problems=["runs/a does not exist"]))


def test_a_page_that_follows_a_run_says_so():
    assert 'data-refresh="5"' in page(Report("open", [examples.unfinished_run()]), refresh=5)
    assert "data-refresh=" not in page(Report("open", [examples.unfinished_run()]))


def test_the_same_report_gives_the_same_page(everything: str):
    assert page(examples.report()) == everything


def test_a_file_that_cannot_be_written_stays_as_it_was(tmp_path: Path):
    with pytest.raises(CheckpointError, match="does not exist"):
        write_page(examples.report(), tmp_path / "missing" / "page.html")
    write_page(Report("nothing"), tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == page(Report("nothing"))
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_without_plotly_the_sentence_names_the_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(write, "find_spec", lambda name: None)
    write._plotly.cache_clear()
    with pytest.raises(
        ReportError, match=r"plotly is not installed; pip install plotly brings it, .*\.\[report\]"
    ):
        write.check_extra()
    with pytest.raises(ReportError, match="plotly is not installed"):
        page(examples.report())
