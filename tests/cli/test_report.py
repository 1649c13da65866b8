import json
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
import torch
from tests.cli.commands import error, gpmt
from tests.report import examples
from tests.training.run.runs import GPMT, ONE_THREAD
from tests.waiting import wait_until

from gpmt.cli import report as command
from gpmt.report.content import read
from gpmt.report.content.report import Report
from gpmt.report.page import write


@pytest.fixture
def plan(dense: str) -> str:
    gpmt("plan", dense, "--sparsity", "0.9", "-o", "plan.json", "-q")
    return "plan.json"


def test_a_page_beside_what_was_given(plan: str):
    result = gpmt("report", plan)
    assert result.stdout == "wrote report.html; open it in a browser\n"
    text = Path("report.html").read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>")
    Path("deep").mkdir()
    shutil.copy(plan, "deep/plan.json")
    gpmt("report", "deep/plan.json", "-q")
    assert Path("deep/report.html").exists()


def test_title_and_place(plan: str, pruned: str):
    assert gpmt("report", plan, pruned, "--title", "Two <things>", "-o", "two.html", "-q").stdout == ""
    assert "<title>Two &lt;things&gt;</title>" in Path("two.html").read_text(encoding="utf-8")


def test_json_is_the_content_and_writes_no_page(plan: str):
    document = json.loads(gpmt("report", plan, "--json").stdout)
    assert document["subjects"][0]["kind"] == "plan"
    assert not Path("report.html").exists()
    gpmt("report", plan, "--json", "-o", "page.html")
    assert Path("page.html").exists()


def test_what_cannot_be_read_is_told_and_the_rest_is_shown(plan: str):
    result = gpmt("report", plan, "missing")
    assert "warning: missing does not exist" in result.stderr
    assert "missing does not exist" in Path("report.html").read_text(encoding="utf-8")


def test_errors_are_one_sentence(plan: str, monkeypatch: pytest.MonkeyPatch):
    assert "missing does not exist" in error("report", "missing")
    assert "nowhere does not exist; create it first" in error("report", plan, "-o", "nowhere/page.html")
    monkeypatch.setattr(write, "find_spec", lambda name: None)
    assert error("report", plan).startswith("plotly is not installed; pip install plotly brings it")
    assert not Path("report.html").exists()


def test_watching_writes_until_all_is_finished(monkeypatch: pytest.MonkeyPatch):
    """The reader is replaced, so that a run goes on without anybody training; the page is the real one."""
    states = [
        Report("a", [examples.unfinished_run()], made="1"),
        Report("a", [examples.unfinished_run()], made="2"),
        Report("a", [examples.run()], made="3"),
    ]
    pages = []
    monkeypatch.setattr(read, "read_report", lambda paths, title=None: states.pop(0))
    monkeypatch.setattr(
        command.time, "sleep", lambda seconds: pages.append(Path("report.html").read_text(encoding="utf-8"))
    )
    result = gpmt("report", "runs", "--watch")
    assert "watching; open report.html in a browser, Ctrl-C ends it" in result.stderr
    assert len(pages) == 2
    assert pages[0] == pages[1]  # nothing has changed
    assert 'data-refresh="5"' in pages[0]
    assert "data-refresh=" not in Path("report.html").read_text(encoding="utf-8")


def test_an_interrupt_ends_watching_with_a_page_that_does_not_wait(monkeypatch: pytest.MonkeyPatch):
    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(
        read, "read_report", lambda paths, title=None: Report("a", [examples.unfinished_run()])
    )
    monkeypatch.setattr(command.time, "sleep", interrupt)
    gpmt("report", "runs", "--watch")
    text = Path("report.html").read_text(encoding="utf-8")
    assert "data-refresh=" not in text
    assert "Not finished" in text


@pytest.mark.slow
def test_a_real_run_is_watched_to_its_end(tmp_path: Path):
    """Two processes: the page changes from epoch to epoch, and no longer waits when the run has ended."""
    folder, page = tmp_path / "run", tmp_path / "page.html"
    train = [
        *GPMT,
        "run",
        "digits",
        "dense.epochs=40",
        "finetune.epochs=20",
        "-o",
        str(folder),
        "--no-report",
        "-q",
    ]
    watch = [*GPMT, "report", str(folder), "--watch", "-o", str(page)]
    seen: dict[str, None] = {}
    with subprocess.Popen(train, env=ONE_THREAD) as run:
        wait_until(lambda: (folder / "recipe.yaml").exists())
        with subprocess.Popen(watch, env=ONE_THREAD, stdout=subprocess.PIPE, text=True) as watching:
            while watching.poll() is None:
                text = page.read_text(encoding="utf-8") if page.exists() else ""
                if 'data-refresh="5"' in text and (found := re.search(r"After epoch [^.]*", text)):
                    seen[found[0]] = None
                time.sleep(0.2)
            assert watching.stdout.read() == f"wrote {page}; open it in a browser\n"
            assert watching.returncode == 0
    assert run.returncode == 0
    assert len(seen) >= 2, seen
    last = page.read_text(encoding="utf-8")
    assert "data-refresh=" not in last
    assert "before pruning" in last


def test_a_run_has_its_page_in_its_folder(run: str):
    """The run of the fixture has neither metrics nor history, as one that was stopped early."""
    gpmt("report", run)
    assert "Not finished" in (Path(run) / "report.html").read_text(encoding="utf-8")
    assert torch.load(Path(run) / "model.pt", weights_only=True)
