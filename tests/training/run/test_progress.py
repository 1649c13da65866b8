from pathlib import Path

import pytest
import torch

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


def test_other_processes_say_nothing(tmp_path: Path, capsys: pytest.CaptureFixture):
    reporter = Reporter(silent=True)
    reporter.log = tmp_path / "log.txt"
    reporter.line("epoch 1/2")
    with reporter.bar("training", 10) as advance:
        advance(10)
    assert capsys.readouterr().err == ""
    assert not reporter.log.exists()
