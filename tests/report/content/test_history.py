from pathlib import Path

import pytest
from tests.report.folders import write_history

from gpmt.errors import ReportError
from gpmt.report.content.documents import Document
from gpmt.report.content.history import latest_score, noted_history, noted_score, read_history
from gpmt.report.content.subject import Epoch, Score


def test_a_table_and_the_metrics_tell_the_same_columns(tmp_path: Path):
    write_history(tmp_path / "history.csv")
    rows = read_history(tmp_path / "history.csv")
    assert rows[-1] == Epoch("finetune", 0, {"test_top1": 0.4, "sparsity": 0.9})
    noted = noted_history(Document({"finetune": [{"epoch": 0, "test": {"top1": 0.4}, "sparsity": 0.9}]}))
    assert noted == [rows[-1]]


def test_values_that_are_no_numbers_are_left_out(tmp_path: Path):
    (tmp_path / "history.csv").write_text("phase,epoch,lr,test_top1\ndense,1,nan,x\nother,1,1,1\ndense,2\n")
    assert read_history(tmp_path / "history.csv") == [Epoch("dense", 1, {}), Epoch("dense", 2, {})]


def test_a_table_that_cannot_be_read_is_named(tmp_path: Path):
    path = tmp_path / "history.csv"
    path.write_bytes(b"phase,epoch\n\xff\xfe")
    with pytest.raises(ReportError, match=r"history.csv cannot be read \(.*\); the run writes it anew"):
        read_history(path)


def test_scores_are_those_of_the_last_epoch():
    rows = [
        Epoch("dense", 0, {"test_top1": 0.1}),
        Epoch("dense", 1, {"test_top1": 0.8, "test_images": 100.0}),
    ]
    assert latest_score(rows, "dense", "dense") == Score("dense", 0.8, images=100)
    assert latest_score(rows, "finetuned", "finetune") is None
    assert noted_score("dense", Document({})) is None
    assert noted_score("pruned", Document({"top1": 0.5, "loss": None})) == Score("pruned", 0.5)
