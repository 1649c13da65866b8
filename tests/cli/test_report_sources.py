from pathlib import Path

import pytest
import torch

import gpmt
from gpmt.cli.report_sources import check_files, read_sources
from gpmt.errors import CheckpointError


def test_what_cannot_be_read_is_told_and_the_rest_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gpmt.plan({"a.weight": torch.ones(10, 10)}, sparsity=0.5).save(tmp_path / "plan.json")
    (tmp_path / "broken.json").write_text("{")
    report = read_sources([tmp_path / "plan.json", tmp_path / "broken.json"], quiet=True)
    assert [subject.numel for subject in report.subjects] == [100]
    assert capsys.readouterr().err.startswith("left out: ")


def test_outputs_are_checked_first(tmp_path: Path) -> None:
    source = tmp_path / "plan.json"
    source.write_text("{}")
    check_files([source], tmp_path / "new.svg", force=False)
    check_files([source], None, force=False)
    for out, force, message in [
        (source, True, "is an input"),
        (tmp_path / "none" / "a.svg", False, "cannot be written"),
    ]:
        with pytest.raises(CheckpointError, match=message):
            check_files([source], out, force=force)
