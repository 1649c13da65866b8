from pathlib import Path

import pytest
from tests.runs.examples import changed, finished_run, stopped_run

from gpmt.runs.log import locked
from gpmt.runs.run_summary import read_run


def test_a_finished_run(tmp_path: Path):
    run = read_run(finished_run(tmp_path / "run"))
    assert (run.state, run.note, run.title) == ("finished", "", "a network on digits")
    assert (run.asked, run.sparsity, run.described) == ("0.9", 0.95, "one-shot")
    assert (run.dense_top1, run.top1, run.epochs, run.total_epochs) == (0.9, 0.875, 4, 4)
    assert (run.seconds, run.when) == (7.5, "2026-01-01T10:00:08+00:00")
    assert run.to_dict()["path"] == str(tmp_path / "run")
    other = changed(prune={"pattern": "2:4", "schedule": "gradual", "method": "feather"})
    run = read_run(finished_run(tmp_path / "other", other, verified=False))
    assert (run.asked, run.described) == ("2:4", "gradual+feather")
    assert run.note == "NOT as promised, see its metrics.json"


@pytest.mark.parametrize(
    ("last", "state", "note"),
    [
        ("", "interrupted", "it ended without a word"),
        ("2026-01-01 10:00:00 interrupted in epoch 2 of 2", "interrupted", "in epoch 2 of 2"),
        ("2026-01-01 10:00:00 stopped after 5 minutes", "interrupted", "stopped after 5 minutes"),
        ("2026-01-01 10:00:00 failed in epoch 2: no memory", "failed", "in epoch 2: no memory"),
        ("2026-01-01 10:00:00 diverged: the loss became nan", "diverged", "the loss became nan"),
    ],
)
def test_a_run_without_a_result(tmp_path: Path, last: str, state: str, note: str):
    run = read_run(stopped_run(tmp_path / "run", last_line=last))
    assert (run.state, run.note) == (state, note)
    assert (run.dense_top1, run.top1, run.sparsity) == (0.9, 0.85, 0.9)
    assert (run.epochs, run.total_epochs, run.seconds) == (3, 4, 5.0)
    with locked(tmp_path / "run/log.txt"):
        assert read_run(tmp_path / "run").state == "running"


def test_accuracies_right_after_pruning_are_not_those_of_fine_tuning(tmp_path: Path):
    path = stopped_run(tmp_path / "run")
    lines = (path / "history.csv").read_text().splitlines(keepends=True)
    (path / "history.csv").write_text("".join(lines[:5]))
    assert (read_run(path).top1, read_run(path).dense_top1) == (None, 0.9)
    (path / "history.csv").unlink()
    (path / "log.txt").unlink()
    run = read_run(path)
    assert (run.state, run.epochs, run.top1) == ("interrupted", 0, None)


@pytest.mark.parametrize(
    ("name", "content", "note"),
    [
        ("metrics.json", "{", "metrics.json is damaged: Expecting property name"),
        ("metrics.json", "{}", "metrics.json is damaged: it does not hold what a run writes"),
        (
            "metrics.json",
            '{"sparsity": "much", "recipe": {"prune": {"sparsity": 1}}}',
            "metrics.json is damaged",
        ),
        ("recipe.yaml", "title: a", "recipe.yaml is damaged: it does not hold what a run writes"),
        ("recipe.yaml", "a: [", "recipe.yaml is not valid YAML"),
        ("history.csv", "phase,epoch\ndense", "history.csv is damaged: its lines have not all"),
    ],
)
def test_a_damaged_file_is_told(tmp_path: Path, name: str, content: str, note: str):
    path = stopped_run(tmp_path / "run")
    (path / name).write_text(content)
    run = read_run(path)
    assert run.state == "damaged"
    assert run.note.startswith(note)


def test_nonsense_in_known_places_is_left_out(tmp_path: Path):
    recipe = changed(title=["x"], seed="two", dense="none", finetune={"epochs": "many"}, data=None)
    run = read_run(finished_run(tmp_path / "run", recipe, dense=3, finetuned=None, seconds=[], finished=None))
    assert (run.state, run.seed, run.dense_top1, run.top1, run.seconds) == (
        "finished",
        None,
        None,
        None,
        None,
    )
    assert run.total_epochs == 0
