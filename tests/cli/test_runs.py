import json
import subprocess
import sys
from pathlib import Path

from tests.cli.commands import error, gpmt
from tests.runs.examples import finished_run, stopped_run, sweep


def listed(*arguments: str) -> list[list[str]]:
    return [line.split() for line in gpmt("runs", *arguments).stdout.splitlines()[4:] if line.strip()]


def test_runs_are_listed_and_sweeps_folded():
    finished_run(Path("runs/one"))
    stopped_run(Path("runs/two"), last_line="2026-01-01 10:00:00 diverged: the loss became nan in epoch 2")
    sweep(Path("sweeps/s"), "x", "y")
    assert [row[:2] for row in listed(".")] == [
        ["runs/one", "finished"],
        ["runs/two", "diverged"],
        ["sweeps/s", "finished"],
    ]
    assert " ".join(listed("runs")[1]).endswith("the loss became nan in epoch 2")
    names = ["sweeps/s/x", "sweeps/s/y", "runs/one", "runs/two"]
    rows = listed("sweeps", ".", "--all", "--sort", "sparsity", "--reverse")  # a run is listed once
    assert sorted(row[0] for row in rows) == sorted(names)
    assert rows[0][0] == "runs/one"


def test_the_document_has_the_runs_of_sweeps():
    sweep(Path("sweeps/s"), "x", "y")
    stopped_run(Path("runs/two"))
    (Path("runs/two") / "metrics.json").write_text("{")
    two, grid = json.loads(gpmt("runs", ".", "--json").stdout)["runs"]
    assert (two["kind"], two["state"], two["top1"]) == ("run", "damaged", None)
    assert two["note"].startswith("metrics.json is damaged")
    assert (grid["kind"], grid["finished"], grid["total"]) == ("sweep", 2, 2)
    assert [run["asked"] for run in grid["runs"]] == ["0.9", "0.91"]


def test_nothing_to_list():
    Path("empty").mkdir()
    assert gpmt("runs", "empty").stdout == "no runs in empty\n"
    assert gpmt("runs", "empty", "-q").stdout == ""
    assert json.loads(gpmt("runs", "empty", "--json").stdout) == {"runs": []}


def test_errors():
    assert error("runs", "none") == "none does not exist; give one with runs in it or below it"
    assert error("runs", "none", "--sort", "accuracy").startswith("--sort is accuracy, which is not known")


def test_pytorch_is_not_imported(tmp_path: Path):
    finished_run(tmp_path / "run")
    stopped_run(tmp_path / "other")
    code = (
        "import sys; from gpmt.cli import app\n"
        f"try: app(['runs', {str(tmp_path)!r}])\n"
        "except SystemExit: pass\n"
        "print('torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "False"
