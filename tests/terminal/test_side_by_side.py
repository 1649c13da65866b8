from pathlib import Path

import pytest
from rich.console import Console
from tests.runs.examples import changed, finished_run, stopped_run

from gpmt.runs.side_by_side import SideBySide, compare_runs
from gpmt.terminal.side_by_side import print_side_by_side


def printed(compared: SideBySide, width: int = 200) -> list[str]:
    console = Console(width=width, highlight=False)
    with console.capture() as capture:
        print_side_by_side(compared, layers=True, out=console)
    lines = capture.get().splitlines()
    assert max(map(len, lines)) <= width
    return [" ".join(line.split()) for line in lines if line.strip()]


def test_settings_results_and_layers(tmp_path: Path):
    other = changed(prune={"sparsity": 0.95, "exclude": []}, dense={"nesterov": True})
    dead = [{"name": "conv.weight", "weights": 100, "kept": 0}]
    paths = [
        finished_run(tmp_path / "a"),
        finished_run(
            tmp_path / "b", other, verification={"tensors": dead}, dead=["conv.weight"], verified=False
        ),
        stopped_run(tmp_path / "c"),
    ]
    lines = printed(compare_runs(paths))
    for line in (
        "setting a b c",
        "dense.nesterov – true –",
        "prune.sparsity 0.9 0.95 0.9",
        "prune.exclude – none –",
        "sparsity 95.0000% 95.0000% 90.0000%",
        "kept 50 50 –",
        "layers at the floor 1 0 –",
        "dead layers 0 1 –",
        "top-1 pruned 20.00% 20.00% –",
        "top-1 fine-tuned 87.50% 87.50% 85.00%",
        "MACs left 2,500 (25.0%) 2,500 (25.0%) –",
        "conv.weight 40.000% 0.000%† –",
        "fc.weight 1.111%* – –",
        "* the minimum decides it; † no weight is left",
        "b: NOT as promised, see its metrics.json",
        "c has no result yet, its accuracies are those so far; interrupted: it ended without a word",
    ):
        assert line in lines
    assert not any("recalibrated" in line for line in lines)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_runs_that_do_not_fit_are_in_further_tables(tmp_path: Path, width: int):
    paths = [finished_run(tmp_path / f"a-long-name-of-a-run-{number}") for number in range(6)]
    lines = printed(compare_runs(paths), width)
    assert lines[0] == "the settings are the same"
    heads = [line for line in lines if line.startswith("a-long-name-of-a-run-")]
    assert " ".join(heads).split() == [path.name for path in paths]
