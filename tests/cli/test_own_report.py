from pathlib import Path

import pytest

from gpmt.cli.own_report import write_own_report
from gpmt.report.page import write


def test_the_line_names_the_page(run: str):
    assert write_own_report(Path(run)) == "a page that shows it: run/report.html"
    assert Path("run/report.html").exists()


def test_without_the_extra_the_line_says_how_to_get_it(run: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(write, "find_spec", lambda name: None)
    write._plotly.cache_clear()
    line = write_own_report(Path(run))
    assert line.startswith("no report.html: plotly is not installed; pip install plotly brings it")
    assert not Path("run/report.html").exists()


def test_no_failure_of_the_page_fails_the_run(run: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(write, "sections", lambda report: 1 / 0)
    assert write_own_report(Path(run)) == (
        "no report.html: ZeroDivisionError: division by zero; please report it, the results are not affected"
    )
