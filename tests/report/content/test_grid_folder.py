import json
from pathlib import Path
from statistics import fmean, stdev

import pytest
from tests.report.folders import write_bench, write_run, write_sweep

from gpmt.errors import ReportError
from gpmt.report.content.grid import Spread
from gpmt.report.content.grid_folder import read_sweep

TOP1 = {("0.8", 0): 0.8, ("0.8", 1): 0.9, ("0.9", 0): 0.7}


def make_sweep(path: Path, **results: object) -> list[dict]:
    """Write a sweep of two sparsities and two seeds, of which one run has no result."""
    runs = [
        {"folder": f"sparsity={sparsity},seed={seed}", "values": {"sparsity": sparsity, "seed": str(seed)}}
        for sparsity in ("0.8", "0.9")
        for seed in (0, 1)
    ]
    write_sweep(path, runs, **results)
    for (sparsity, seed), top1 in TOP1.items():
        write_run(path / f"sparsity={sparsity},seed={seed}", seed=seed, sparsity=float(sparsity), top1=top1)
    return runs


def test_cells_are_means_over_the_seeds(tmp_path: Path):
    path = tmp_path / "sweep"
    make_sweep(path)
    problems: list[str] = []
    grid = read_sweep(path, problems)
    assert problems == []
    assert (grid.kind, grid.title, grid.total, grid.finished, grid.epochs) == ("sweep", "A sweep", 4, 3, 5)
    low, high = grid.cells
    assert (low.asked, low.seeds, low.lost) == (0.8, (0, 1), ())
    assert low.finetuned == Spread(fmean([0.8, 0.9]), stdev([0.8, 0.9]))
    assert low.dense == Spread(0.9, 0.0)
    assert (high.seeds, high.lost) == ((0,), ("seed 1 is to do",))
    assert high.finetuned == Spread(0.7, None)
    metrics = json.loads((path / "sparsity=0.9,seed=0" / "metrics.json").read_text())
    assert high.sparsity == Spread(metrics["sparsity"])
    assert high.macs == metrics["macs"]["sparse"] / metrics["macs"]["dense"]
    assert (high.fewest, high.dead) == (20, 0)
    assert [Path(run).name for run in grid.runs] == [
        "sparsity=0.8,seed=0",
        "sparsity=0.8,seed=1",
        "sparsity=0.9,seed=0",
    ]
    assert grid.commands == ("gpmt sweep small sparsity=0.8,0.9 seed=0,1 -o sweep",)
    assert grid.machine["cpu"] == "A processor"
    assert grid.missing[0].startswith("1 runs: they have not finished; gpmt sweep small")


@pytest.mark.parametrize(
    ("results", "lost", "warning"),
    [
        ({"failed": [{"folder": "F", "error": "the loss became inf in epoch 2"}]}, "seed 1 diverged", True),
        ({"failed": [{"folder": "F", "error": "killed"}]}, "seed 1 failed: killed", True),
        ({"infeasible": [{"folder": "F", "error": "no room"}]}, "seed 1 is infeasible: no room", True),
        ({}, "seed 1 is to do", False),
    ],
)
def test_lost_seeds_say_why(tmp_path: Path, results: dict, lost: str, warning: bool):
    path = tmp_path / "sweep"
    named = {key: [{**rows[0], "folder": "sparsity=0.9,seed=1"}] for key, rows in results.items()}
    make_sweep(path, **named)
    grid = read_sweep(path, [])
    assert grid.cells[1].lost == (lost,)
    assert (f" at 90 %: {lost}" in grid.warnings) == warning
    assert grid.total == 4 - ("infeasible" in results)


def test_other_axes_and_variants_make_curves_of_their_own(tmp_path: Path):
    path = tmp_path / "sweep"
    runs = [
        {"folder": f"{lr}-{floor}", "variant": "GP", "values": {"lr": lr, "min_kept": floor, "seed": "0"}}
        for lr in ("0.1", "0.2")
        for floor in ("0", "20")
    ]
    write_sweep(path, runs)
    write_run(path / "0.1-20", sparsity=0.85)
    grid = read_sweep(path, [])
    assert [cell.label for cell in grid.cells] == [
        "GP (lr=0.1)",
        "GP + 20 (lr=0.1)",
        "GP (lr=0.2)",
        "GP + 20 (lr=0.2)",
    ]
    assert grid.cells[1].asked == 0.85


def test_damaged_files_are_problems_and_the_rest_is_told(tmp_path: Path):
    path = tmp_path / "sweep"
    make_sweep(path)
    (path / "sparsity=0.8,seed=1" / "metrics.json").write_text("{")
    (path / "results.json").write_text("")
    problems: list[str] = []
    grid = read_sweep(path, problems)
    assert len(problems) == 2
    assert all("is damaged: " in problem for problem in problems)
    assert problems[1].endswith("; remove it, and the sweep makes the run again with --resume")
    assert grid.finished == 2
    (path / "sweep.json").write_text("[]")
    with pytest.raises(
        ReportError, match=r"sweep.json is damaged: it holds a list in place of an object; the folder"
    ):
        read_sweep(path, [])


def test_runs_of_several_machines_are_a_warning(tmp_path: Path):
    path = tmp_path / "sweep"
    make_sweep(path)
    file = path / "sparsity=0.9,seed=0" / "metrics.json"
    metrics = json.loads(file.read_text())
    metrics["machine"]["cpu"], metrics["recipe"]["model"] = "Another", "large"
    file.write_text(json.dumps(metrics))
    grid = read_sweep(path, [])
    assert grid.warnings == [
        "its runs come from several networks, so that they may not compare: large, small",
        "its runs come from several processors, so that they may not compare: A processor, Another",
    ]


def test_latencies_are_those_of_all_seeds(tmp_path: Path):
    path = tmp_path / "sweep"
    make_sweep(path)
    first, second = (path / f"sparsity=0.8,seed={seed}" for seed in (0, 1))
    write_bench(first / "bench.json", str(first))
    assert read_sweep(path, []).cells[0].latency_ms is None
    write_bench(
        second / "bench.json", str(second), engines={"gpmt": {"seconds": 0.003}, "eager": {"seconds": 1}}
    )
    assert read_sweep(path, []).cells[0].latency_ms == 2.0


def test_a_run_outside_of_the_folder_is_not_followed(tmp_path: Path):
    write_run(tmp_path / "elsewhere")
    write_sweep(tmp_path / "sweep", [{"folder": "../elsewhere", "values": {"seed": "0"}}])
    assert read_sweep(tmp_path / "sweep", []).finished == 0
