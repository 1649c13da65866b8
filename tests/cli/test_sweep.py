import json
from pathlib import Path
from typing import Any

import pytest
from tests.cli.commands import gpmt

from gpmt.training.sweep import runner

SHORT = ["sweep", "digits", "dense.epochs=1", "dense.warmup_epochs=0", "finetune.epochs=1"]


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.mark.slow
def test_a_run_that_fails_is_named_and_the_others_are_reported():
    variants = ["--variant", "too fast: finetune.lr=1e30", "--variant", "GP+MT:"]
    result = gpmt(*SHORT, *variants, code=2)
    assert "run 1 of 2: too fast: FAILED: the loss became nan in epoch 1 of finetune; lower" in result.stderr
    assert "run 2 of 2: GP+MT: top-1 " in result.stderr
    assert result.stderr.splitlines()[-1] == (
        "error: 1 of 2 runs failed (too fast); see why above, then go on with: gpmt sweep digits dense.epochs=1 "
        "dense.warmup_epochs=0 finetune.epochs=1 --variant 'too fast: finetune.lr=1e30' --variant GP+MT: "
        "-o sweeps/digits --resume"
    )
    for text in (
        "variant",
        "GP+MT",
        "dense",
        "fine-tuned",
        "± –",
        "written to sweeps/digits: ",
    ):
        assert text in result.stdout
    assert "too fast" not in result.stdout
    assert "lower finetune.lr" in Path("sweeps/digits/too-fast.log").read_text()
    # The dense network of the run that failed later on served the other.
    metrics = json.loads(Path("sweeps/digits/gp-mt/metrics.json").read_text())
    assert metrics["dense_from"] == "sweeps/digits/too-fast"
    assert "not empty" in gpmt(*SHORT, *variants, code=2).stderr


def test_json_is_all_that_stdout_has(monkeypatch: pytest.MonkeyPatch):
    results: dict[str, Any] = {"failed": [], "runs": [{"verified": False}], "summary": []}
    monkeypatch.setattr(runner, "sweep", lambda *_, **__: results)
    assert json.loads(gpmt(*SHORT, "seed=0,1", "--json", code=1).stdout) == results


def test_an_interrupt_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch):
    def interrupted(*_: Any, **__: Any) -> None:
        raise runner.Interrupted("after 3 of 4 runs")

    monkeypatch.setattr(runner, "sweep", interrupted)
    result = gpmt("sweep", "digits", "seed=0,1", "sparsity=0.8,0.9", "-j", "2", "-o", "here", code=130)
    assert result.stderr == (
        "interrupted after 3 of 4 runs; go on with: gpmt sweep digits seed=0,1 sparsity=0.8,0.9 --jobs 2 "
        "-o here --resume\n"
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["digit", "seed=0,1"], "error: recipe digit is not known; did you mean digits?"),
        (
            ["digits", "sparsty=0,0.5"],
            "error: override sparsty is not a key of a recipe; did you mean sparsity?",
        ),
        (["digits", "seed=0"], "error: the sweep has a single run; give a list of values"),
    ],
)
def test_an_error_is_one_sentence_and_nothing_is_written(tmp_path: Path, arguments: list[str], sentence: str):
    result = gpmt("sweep", *arguments, code=2)
    assert result.stderr.startswith(sentence)
    assert len(result.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_resuming_where_nothing_is_is_refused(tmp_path: Path) -> None:
    Path("other").mkdir()
    for folder, state in (
        ("none", "does not exist"),
        ("other", "does not hold a sweep (sweep.json is missing)"),
    ):
        result = gpmt("sweep", "digits", "seed=0,1", "--resume", "-o", folder, code=2)
        assert result.stderr == (
            f"error: {folder} {state}, so there is nothing to go on with; leave out --resume to start one, or give "
            "the folder of the sweep with -o\n"
        )
