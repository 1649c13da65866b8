from dataclasses import replace
from pathlib import Path

import pytest

from gpmt.errors import GpmtError
from gpmt.runs.found import GridSummary
from gpmt.runs.order import ordered
from gpmt.runs.run_summary import RunSummary

RUNS = [
    RunSummary(Path("b"), top1=0.5, sparsity=0.9, seconds=1.0, epochs=3, when="2026-01-01T00:00:00+00:00"),
    RunSummary(Path("a"), top1=0.7, sparsity=0.8, seconds=2.0, epochs=3, when="2026-01-03T00:00:00+00:00"),
    RunSummary(Path("c")),
]


@pytest.mark.parametrize(
    ("key", "names"),
    [
        ("name", "abc"),
        ("when", "abc"),
        ("sparsity", "abc"),
        ("top1", "abc"),
        ("time", "bac"),
        ("epochs", "abc"),
    ],
)
def test_the_best_and_the_newest_are_first_and_the_unknown_last(key: str, names: str):
    assert "".join(str(run.path) for run in ordered(RUNS, key)) == names


def test_the_order_is_turned_around_but_the_unknown_stay_last():
    assert "".join(str(run.path) for run in ordered(RUNS, "top1", reverse=True)) == "bac"


def test_sweeps_are_among_runs():
    grid = GridSummary(Path("d"), "sweep", runs=[replace(RUNS[0], top1=0.6), RUNS[1]], total=2)
    assert [str(run.path) for run in ordered([*RUNS, grid], "top1")] == ["a", "d", "b", "c"]


def test_an_unknown_key():
    with pytest.raises(GpmtError, match="--sort is top, which is not known; did you mean top1"):
        ordered([], "top")
