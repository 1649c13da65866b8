from pathlib import Path

import pytest
from rich.console import Console

from gpmt.runs.found import Found, GridSummary
from gpmt.runs.run_summary import RunSummary
from gpmt.terminal.runs import runs_table
from gpmt.terminal.tables import UNBOUNDED

RUN = RunSummary(
    Path("runs/one"), "a network on digits", "finished", asked="0.9", sparsity=0.9, schedule="one-shot",
    method="hard", dense_top1=0.9, top1=0.875, epochs=4, total_epochs=4, seconds=75.0,
    when="2026-01-01T10:00:08+00:00",
)  # fmt: skip
STOPPED = RunSummary(Path("runs/two"), state="interrupted", note="in epoch 3 of 4", epochs=2, total_epochs=4)
GRID = GridSummary(Path("sweeps/x"), "sweep", "digits", [RUN, STOPPED], 3, "failed")
RUNS: list[Found] = [RUN, STOPPED, GRID]


def lines(width: int) -> tuple[list[list[str]], list[str]]:
    table, below = runs_table(RUNS, [str(run.path) for run in RUNS], width=width)
    console = Console(width=width)
    with console.capture() as capture:
        console.print(table)
    printed = capture.get().splitlines()
    assert max(map(len, printed)) <= width
    return [line.split() for line in printed if line.strip()], below


def test_all_columns_where_there_is_room():
    (_, titles, _, one, two, grid), below = lines(UNBOUNDED)
    assert titles[-4:] == ["epochs", "time", "when", "note"]
    assert one[:7] == ["runs/one", "finished", "a", "network", "on", "digits", "one-shot"]
    assert one[7:15] == ["0.9", "90.00", "90.00", "87.50", "4", "of", "4", "75"]
    assert two[-5:] == ["in", "epoch", "3", "of", "4"]
    assert grid[:5] == ["sweeps/x", "failed", "sweep", "of", "digits"]
    assert "1 of 3 runs" in " ".join(grid)
    assert below == []


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_narrow_terminal_has_what_is_wrong_below(width: int):
    (*_, one, two, grid), below = lines(width)
    assert (one[:2], two[:2], grid[:2]) == (
        ["runs/one", "finished"],
        ["runs/two", "interrupted"],
        ["sweeps/x", "failed"],
    )
    assert "87.50" in one
    assert below == ["runs/two: in epoch 3 of 4"]


def test_spans_of_a_sweep():
    other = RunSummary(Path("z"), asked="0.95", sparsity=0.95, top1=0.1, schedule="gradual", method="hard")
    table, _ = runs_table([GridSummary(Path("x"), "comparison", "", [RUN, other], 2)], ["x"])
    console = Console(width=UNBOUNDED)
    with console.capture() as capture:
        console.print(table)
    row = capture.get().splitlines()[-2].split()
    assert {"0.9–0.95", "90.00–95.00", "10.00–87.50"} <= {*row}
    assert "2 methods" in " ".join(row)
