import io
from pathlib import Path

import pytest
import torch
from rich.console import Console

from gpmt.training.run.progress import Reporter


def test_lines_go_to_standard_error_and_with_the_time_to_the_log(
    tmp_path: Path, capsys: pytest.CaptureFixture
):
    reporter = Reporter()
    reporter.line("before there is a log")
    reporter.log = tmp_path / "log.txt"
    reporter.line("epoch 1/2: [loss] 0.5")
    with reporter.bar("training", 10) as advance:
        advance(10, torch.tensor(0.5))
    assert list(reporter.track([torch.zeros(1)], "reading", 1)) == [torch.zeros(1)]
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == ["before there is a log", "epoch 1/2: [loss] 0.5", "reading"]
    first, second = reporter.log.read_text().splitlines()
    assert first[19:] == " epoch 1/2: [loss] 0.5"
    assert second.endswith(" reading")


@pytest.mark.parametrize("width", [80, 120])
def test_lines_on_a_terminal_wrap_at_words(width: int):
    reporter = Reporter()
    text = (
        "finetune epoch 1/10: lr 0.09755, sparsity 93.00%, train loss 0.8123, top-1 78.12%; test top-1 81.23%, "
        "top-5 99.12%, loss 0.7123; 12,345 images/s; 42 s left of finetune"
    )
    written = io.StringIO()
    reporter.console = Console(file=written, force_terminal=True, width=width, color_system=None)
    reporter.line(text)
    lines = written.getvalue().splitlines()
    assert len(lines) > 1
    assert all(len(line) <= width for line in lines)
    assert [word for line in lines for word in line.split()] == text.split()


def test_lines_that_are_not_for_a_terminal_stay_whole(capsys: pytest.CaptureFixture):
    Reporter().line("word " * 100)
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_quiet_runs_write_to_the_log_alone(tmp_path: Path, capsys: pytest.CaptureFixture):
    reporter = Reporter(quiet=True)
    reporter.log = tmp_path / "log.txt"
    reporter.line("epoch 1/2")
    assert capsys.readouterr().err == ""
    assert reporter.log.read_text().endswith(" epoch 1/2\n")


def test_other_processes_say_nothing(tmp_path: Path, capsys: pytest.CaptureFixture):
    reporter = Reporter(silent=True)
    reporter.log = tmp_path / "log.txt"
    reporter.line("epoch 1/2")
    with reporter.bar("training", 10) as advance:
        advance(10)
    assert capsys.readouterr().err == ""
    assert not reporter.log.exists()
