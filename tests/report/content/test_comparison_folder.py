import json
from pathlib import Path

import pytest
from tests.report.folders import write_bench, write_run, write_sweep
from tests.training.compare.comparisons import results_of, small_comparison

from gpmt.errors import ReportError
from gpmt.report.content.comparison_folder import comparison_grid, is_comparison, read_comparison, read_table
from gpmt.report.content.documents import Document
from gpmt.report.content.grid import Spread
from gpmt.report.content.read import read_report
from gpmt.runs.log import NOT_FINITE
from gpmt.training.compare.outcome import outcome


def made(**changes: object) -> dict:
    comparison = small_comparison()
    results = results_of(comparison, lambda point: 0.9 + point.recipe.seed / 20, **changes)  # type: ignore[arg-type]
    return json.loads(json.dumps(outcome(comparison, results)))


def test_cells_are_those_of_the_table():
    document = made(
        to_do={"GP sparsity=0.9 seed=1"},
        failed={"GP sparsity=0.95 seed=0": f"{NOT_FINITE} inf", "GP sparsity=0.95 seed=1": "killed"},
        infeasible={f"gradual+MT sparsity=0.95 seed={seed}": "no room" for seed in (0, 1)},
        dead={"GP sparsity=0.9 seed=0"},
    )
    grid = comparison_grid(
        document, {"commands": ["gpmt compare digits"], "versions": {"gpmt": "1"}}, Path("c")
    )
    assert (grid.kind, grid.path, grid.epochs) == ("comparison", "c", 6)
    assert (grid.total, grid.finished) == (document["total"], document["finished"])
    assert grid.commands == ("gpmt compare digits",)
    assert grid.dense == Spread(**document["dense"]["cells"][0]["finetuned_top1"])
    cells = {(cell.label, cell.asked): cell for cell in grid.cells}
    assert [*cells] == [
        (label, asked)
        for label in ("GP", "GP + 0.25%", "gradual", "gradual + 0.25%")
        for asked in (0.9, 0.95)
    ]
    theirs = document["rows"][1]["cells"][0]
    ours = cells["GP + 0.25%", 0.9]
    assert ours.finetuned == Spread(**theirs["finetuned_top1"])
    assert ours.pruned == Spread(**theirs["pruned_top1"])
    assert (ours.macs, ours.fewest, ours.seeds) == (theirs["macs"], theirs["fewest_kept"], (0, 1))
    assert ours.dense is not None
    assert (ours.dense.mean, ours.dense.std) == pytest.approx((0.925, 0.05 / 2**0.5))
    assert cells["GP", 0.9].lost == ("seed 1 is to do",)
    assert cells["GP", 0.9].dead == 1
    assert cells["GP", 0.95].lost == ("seed 0 diverged", "seed 1 failed")
    assert cells["gradual + 0.25%", 0.95].lost == ("all seeds are infeasible: no room",)
    assert cells["gradual", 0.9].pruned is None
    assert cells["gradual", 0.9].dense is None
    assert grid.warnings == [
        "GP at 95 %: seed 0 diverged",
        "GP at 95 %: seed 1 failed",
        "gradual + 0.25% at 95 %: all seeds are infeasible: no room",
    ]


def make_folder(path: Path) -> None:
    write_sweep(
        path,
        [
            {"folder": f"gp-{seed}", "variant": "GP", "values": {"sparsity": "0.9", "seed": str(seed)}}
            for seed in (0, 1)
        ],
    )
    for seed in (0, 1):
        run = path / f"gp-{seed}"
        write_run(run, seed=seed)
        write_bench(run / "bench.json", str(run))
    (path / "comparison.json").write_text(json.dumps(made()))


def test_the_folder_adds_what_its_runs_have_noted(tmp_path: Path):
    make_folder(tmp_path / "c")
    problems: list[str] = []
    grid = read_comparison(tmp_path / "c", problems)
    assert problems == []
    assert grid.cells[0].latency_ms == 1.0
    assert grid.cells[1].latency_ms is None
    assert grid.machine["cpu"] == "A processor"
    assert [Path(run).name for run in grid.runs] == ["gp-0", "gp-1"]


def test_a_damaged_table_leaves_the_runs(tmp_path: Path):
    make_folder(tmp_path / "c")
    (tmp_path / "c" / "comparison.json").write_text("no")
    problems: list[str] = []
    grid = read_comparison(tmp_path / "c", problems)
    assert (grid.kind, len(grid.cells), grid.cells[0].method) == ("sweep", 1, "GP")
    assert "comparison.json is damaged" in problems[0]
    assert problems[0].endswith("; the next run of the comparison writes it anew, with --resume")


def test_hostile_values_are_not_there():
    grid = comparison_grid(
        {"rows": [{"cells": [{"seeds": "x", "finetuned_top1": 3}]}], "epochs": "9"}, {}, Path("c")
    )
    [cell] = grid.cells
    assert (cell.method, cell.seeds, cell.finetuned, grid.epochs) == ("", (), None, None)


@pytest.mark.parametrize("give_folder", [False, True])
def test_a_table_alone_is_told_without_its_folder(tmp_path: Path, give_folder: bool):
    path = tmp_path / "comparison.json"
    path.write_text(json.dumps(made()))
    [grid] = read_report([tmp_path if give_folder else path]).grids
    assert [cell.finetuned for cell in grid.cells] == [
        cell.finetuned for cell in comparison_grid(made(), {}, path).cells
    ]
    assert grid.missing == [
        f"latencies, commands, versions and machine: {path} is the table alone; give the folder of the comparison"
    ]


def test_a_table_without_results_is_refused(tmp_path: Path):
    empty = Document({"sparsities": [], "dense": {}, "rows": []})
    assert is_comparison(empty)
    with pytest.raises(ReportError, match=r"c\.json is the table of a comparison without results; give the"):
        read_table(tmp_path / "c.json", empty)
