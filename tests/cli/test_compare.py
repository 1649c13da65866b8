import json
import re
from pathlib import Path
from typing import Any

import pytest
from tests.cli.commands import error, gpmt
from tests.runs.examples import changed, finished_run, sweep

from gpmt.training.compare import runner
from gpmt.training.sweep.runner import Interrupted

SMALL = ["compare", "digits", "--sparsity", "0.9", "--seeds", "0", "--methods", "GP,gradual", "--epochs", "2"]


def test_a_dry_run_tells_every_run_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("FORCE_COLOR", "1")
    printed = re.sub(r"\x1b\[[\d;]*m", "", gpmt(*SMALL, "--min-kept", "3%", "--dry-run").stdout)
    lines = [" ".join(line.split()) for line in printed.splitlines()]
    assert max(map(len, printed.splitlines())) <= 80
    assert lines[0] == "MobileNet-like network on digits: 5 runs"
    assert "dense 0 % 0 2 2 2" in lines
    assert "GP 90 % 0 1 + 1 2 2" in lines
    assert "GP+MT 90 % 0 1 + 1 2 infeasible" in lines
    text = " ".join(lines)
    assert "every run has 2 epochs: 1 dense + 1 of fine-tuning, or all from an untrained network" in text
    assert "6 epochs to train, shared dense networks once" in text
    assert "infeasible: GP+MT at 90 %, gradual+MT at 90 %: sparsity 0.9 keeps 5,413" in text
    assert "would write into comparisons/digits: comparison.md" in text
    document = json.loads(gpmt(*SMALL, "--dry-run", "--json").stdout)
    assert [run["variant"] for run in document["runs"]] == ["dense", "GP", "GP+MT", "gradual", "gradual+MT"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("files", [["recipe.yaml", "sweep.json"], ["recipe.yaml"]], ids=["comparison", "run"])
def test_a_recipes_name_goes_before_a_folder_of_that_name(files: list[str]):
    Path("digits").mkdir()
    for file in files:
        Path("digits", file).write_text("{}")
    assert json.loads(gpmt(*SMALL, "--dry-run", "--json").stdout)["runs"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["digit"], "recipe digit is not known; did you mean digits?"),
        (["digits", "--methods", "GP,gradul"], "method 'gradul' is not known; did you mean gradual?"),
        (["digits", "--methods", "GP,,ERK"],
         "--methods 'GP,,ERK' has an empty value; write the values with one comma between them"),
        (["digits", "--seeds", "0,x"], "seed is 'x', but must be a whole number of at least 0"),
        (["digits", "--min-kept", "none", "--methods", "gp+mt"],
         "GP+MT is asked for, but --min-kept is none; give a floor, such as 0.05% or auto"),
        (["digits", "--epochs", "1"], "--epochs is 1, but a comparison needs at least 2; give more with --epochs"),
        (["digits", "schedule=gradual"],
         "schedule=gradual is given for all runs, but methods differ in it; leave it out"),
        (["digits", "--resume"],
         "comparisons/digits does not exist, so there is nothing to go on with; leave out --resume to start one, or "
         "give the folder of the comparison with -o"),
        (["mnist-lenet5", "data.root=nowhere"], "dense sparsity=0 seed=0: data.root is nowhere, which is not a"),
    ],
)  # fmt: skip
def test_an_error_is_one_sentence_and_nothing_is_written(tmp_path: Path, arguments: list[str], sentence: str):
    assert error("compare", "--quiet", *arguments).startswith(sentence)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch):
    def interrupted(*_: Any, **__: Any) -> None:
        raise Interrupted("after 3 of 4 runs")

    monkeypatch.setattr(runner, "compare", interrupted)
    result = gpmt(*SMALL, "dense.lr=0.2", "-j", "2", "--min-kept", "60", "-o", "here", code=130)
    assert result.stderr == (
        "interrupted after 3 of 4 runs; go on with: gpmt compare digits dense.lr=0.2 --methods GP,gradual "
        "--sparsity 0.9 --min-kept 60 --epochs 2 --seeds 0 --jobs 2 -o here --resume\n"
    )


@pytest.mark.slow
def test_a_comparison_is_printed_and_a_second_one_over_it_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    small = [*SMALL, "data.train_limit=200", "data.test_limit=100"]
    result = gpmt(*small, "--min-kept", "none")
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert lines[0] == "MobileNet-like network on digits: top-1 % on the test data after the last epoch"
    assert "method floor 90 % epochs time" in lines
    assert [line.split()[0] for line in lines[4:] if " – " in line] == ["dense", "GP", "gradual"]
    assert any("* best of its sparsity" in line for line in lines)
    assert any(line.startswith("written to comparisons/digits: comparison.md") for line in lines)
    assert lines[-1] == "a page that shows it: comparisons/digits/report.html"
    assert "not empty" in error(*small, "--min-kept", "none")
    document = json.loads(gpmt(*small, "--min-kept", "none", "--resume", "--json").stdout)
    assert document["finished"] == document["total"] == 3


def test_runs_are_set_side_by_side():
    finished_run(Path("runs/a"))
    finished_run(Path("runs/b"), changed(prune={"sparsity": 0.95}), sparsity=0.975)
    lines = [" ".join(line.split()) for line in gpmt("compare", "runs/a", "runs/b").stdout.splitlines()]
    assert "prune.sparsity 0.9 0.95" in lines
    assert "sparsity 95.0000% 97.5000%" in lines
    assert "fc.weight 1.111%* 1.111%*" not in lines
    assert "fc.weight 1.111%* 1.111%*" in " ".join(
        gpmt("compare", "runs/a", "runs/b", "--layers").stdout.split()
    )
    document = json.loads(gpmt("compare", "runs/a", "runs/b", "--json").stdout)
    assert document["settings"] == {"prune.sparsity": [0.9, 0.95]}
    assert [run["kept"] for run in document["runs"]] == [50, 50]
    assert "layers" not in document
    document = json.loads(gpmt("compare", "runs/a", "runs/b", "--json", "--layers").stdout)
    assert [layer["name"] for layer in document["layers"]] == ["conv.weight", "fc.weight"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["runs/a"], "runs/a is one run; give another to compare it with"),
        (["runs/a", "sparsity=0.9"],
         "sparsity=0.9 is not the folder of a run; give runs alone, or a recipe and KEY=VALUE"),
        (["digits", "runs/a"],
         "runs/a is the folder of a run, but digits is not; give runs alone, or a recipe and KEY=VALUE"),
        (["sweeps/s", "runs/a"],
         "sweeps/s is the folder of a sweep; give those of its runs, which gpmt runs --all lists"),
        (["digits", "--layers"], "--layers is for runs side by side, but digits is not the folder of a run"),
        (["runs/a", "runs/a", "--seeds", "0,1,2"],
         "--seeds is for a recipe, but runs/a is the folder of a run; leave one of them out"),
        (["runs/a", "runs/a", "-s", "0.9"],
         "--sparsity is for a recipe, but runs/a is the folder of a run; leave one of them out"),
    ],
)  # fmt: skip
def test_runs_and_recipes_are_not_mixed(arguments: list[str], sentence: str):
    finished_run(Path("runs/a"))
    sweep(Path("sweeps/s"), "x")
    assert error("compare", *arguments) == sentence
