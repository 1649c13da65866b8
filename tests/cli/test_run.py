import json
from pathlib import Path
from typing import Any

import pytest
from tests.cli.commands import gpmt

from gpmt.training.run import phase

RECIPE = ["run", "digits", "dense.epochs=1", "dense.warmup_epochs=0", "finetune.epochs=1"]


def test_prints_a_table_and_leaves_a_folder_named_after_the_recipe():
    result = gpmt(*RECIPE)
    for text in ("dense", "pruned", "fine-tuned", "top-1", "(verified)", "written to runs/digits: model.pt"):
        assert text in result.stdout
    assert "a page that shows it: runs/digits/report.html" in result.stdout
    assert "fine-tuning top-1 is" not in Path("runs/digits/report.html").read_text()
    assert "report.html" in Path("runs/digits/README.md").read_text()
    assert "finetune epoch 1/1: lr 0.1, sparsity 93.00%, train loss" in result.stderr
    gpmt("verify", "runs/digits/model.pt", "--masks", "runs/digits/masks.safetensors", "--sparsity", "0.93")
    assert "resume" in gpmt(*RECIPE, code=2).stderr
    again = gpmt("run", "runs/digits/recipe.yaml", "--resume", "--json")
    assert json.loads(again.stdout) == json.loads(Path("runs/digits/metrics.json").read_text())


def test_json_is_all_that_stdout_has():
    metrics = json.loads(
        gpmt(*RECIPE, "finetune.epochs=0", "--out", "elsewhere", "--json", "--no-report").stdout
    )
    assert metrics["finetuned"] == metrics["recalibrated"]
    assert Path("elsewhere/metrics.json").exists()
    assert not Path("elsewhere/report.html").exists()


def test_layers_that_are_pruned_away_are_told_on_stderr():
    lines = gpmt(*RECIPE, "finetune.epochs=0", "sparsity=0.999", "min_kept=0").stderr.splitlines()
    warnings = [line for line in lines if line.startswith("warning:")]
    assert len(warnings) == len(set(warnings))
    assert any("leaves no weight in" in line and "a min_kept of" in line for line in warnings), lines


def test_an_interrupt_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch):
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(phase, "train_epoch", interrupted)
    result = gpmt(*RECIPE, code=130)
    assert result.stderr.count("interrupted") == 1
    assert result.stderr.splitlines()[-1] == (
        "interrupted in epoch 1 of 1 of dense; go on with: gpmt run digits dense.epochs=1 "
        "dense.warmup_epochs=0 finetune.epochs=1 -o runs/digits --resume"
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["digit"], "error: recipe digit is not known; did you mean digits?"),
        (
            ["digits", "--resume"],
            "error: runs/digits does not exist, so there is nothing to go on with; leave out --resume to start one, "
            "or give the folder of the run with -o",
        ),
        (
            ["digits", "-s", "2"],
            "error: recipe digits: prune.sparsity is 2, but must be at least 0 and below 1",
        ),
        (
            ["digits", "sparsty=0.9"],
            "error: override sparsty is not a key of a recipe; did you mean sparsity?",
        ),
        (["fashion-mnist-lenet5"], "error: data.root is not given; give data.root=FOLDER, "),
    ],
)
def test_an_error_is_one_sentence_and_nothing_is_written(tmp_path: Path, arguments: list[str], sentence: str):
    result = gpmt("run", *arguments, code=2)
    assert result.stderr.startswith(sentence)
    assert len(result.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_result_that_is_not_verified_is_exit_code_1(monkeypatch: pytest.MonkeyPatch):
    # Masks that are not enforced: the weights that are pruned grow back.
    monkeypatch.setattr("gpmt.pruner.pruner.Pruner._after_step", lambda *_: None)
    result = gpmt(*RECIPE, code=1)
    assert "NOT as promised" in result.stdout


def test_a_dry_run_shows_the_plan_and_writes_nothing(tmp_path: Path):
    printed = gpmt("run", "digits", "--dry-run").stdout
    assert "how many weights each tensor keeps follows from the training before" in printed
    assert "would write into runs/digits: recipe.yaml, log.txt, dense.pt, model.pt" in " ".join(
        printed.split()
    )
    document = json.loads(gpmt("run", "digits", "-s", "0.5", "--dry-run", "--json").stdout)
    assert document["plan"]["sparsity"] == 0.5
    assert gpmt("run", "digits", "--dry-run", "-q").stdout == ""
    assert list(tmp_path.iterdir()) == []
