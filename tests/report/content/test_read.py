import json
from pathlib import Path

import pytest
import torch
from tests.report.folders import HOSTILE, write_bench, write_run, write_sweep

import gpmt
from gpmt.errors import ReportError
from gpmt.report.content.read import read_report


def make_all(folder: Path) -> list[Path]:
    """Write one of each kind, and return their paths."""
    write_run(folder / "run")
    write_run(folder / "going")
    (folder / "going" / "metrics.json").unlink()
    gpmt.plan({"fc.weight": torch.rand(10, 10)}, sparsity=0.9).save(folder / "plan.json")
    torch.save({"fc.weight": torch.eye(10)}, folder / "weights.pt")
    runs = [{"folder": "one", "values": {"sparsity": "0.9", "seed": "0"}}]
    write_sweep(folder / "sweep", runs)
    write_run(folder / "sweep" / "one")
    write_sweep(folder / "comparison", runs)
    (folder / "comparison" / "comparison.json").write_text(json.dumps({"title": "compared"}))
    return [folder / name for name in ("run", "going", "plan.json", "weights.pt", "sweep", "comparison")]


def test_the_content_says_what_each_path_is(tmp_path: Path):
    report = read_report(make_all(tmp_path))
    assert [(one.kind, one.finished) for one in report.subjects] == [
        ("run", True),
        ("run", False),
        ("plan", True),
        ("file", True),
    ]
    assert [one.kind for one in report.grids] == ["sweep", "comparison"]
    assert report.problems == []
    assert report.title == f"A small network {HOSTILE} and 5 more"
    assert report.made[:2] == "20"
    assert "NaN" not in json.dumps(report.to_dict())


def test_files_of_a_folder_stand_for_it(tmp_path: Path):
    make_all(tmp_path)
    report = read_report(
        [
            tmp_path / "run" / "metrics.json",
            tmp_path / "sweep" / "sweep.json",
            tmp_path / "going" / "recipe.yaml",
        ],
        title="three",
    )
    assert [one.path for one in report.subjects] == [str(tmp_path / "run"), str(tmp_path / "going")]
    assert [one.path for one in report.grids] == [str(tmp_path / "sweep")]
    assert report.title == "three"


def test_names_with_markup_are_kept_as_they_are(tmp_path: Path):
    write_run(tmp_path / "<b>run")
    report = read_report([tmp_path / "<b>run"])
    [run] = report.subjects
    assert report.title == f"A small network {HOSTILE}"
    assert run.path.endswith("<b>run")
    assert run.layers[-1].name == f"{HOSTILE}.weight"


def test_what_cannot_be_read_is_a_problem_and_the_rest_is_told(tmp_path: Path):
    write_run(tmp_path / "run")
    (tmp_path / "notes.txt").write_text("words")
    (tmp_path / "other.json").write_text('{"a": 1}')
    (tmp_path / "damaged.json").write_text("{")
    paths = [tmp_path / name for name in ("absent", "notes.txt", "other.json", "damaged.json")]
    report = read_report([*paths, tmp_path / "run", tmp_path])
    assert [one.kind for one in report.subjects] == ["run"]
    absent, notes, other, damaged, folder = report.problems
    assert absent == f"{paths[0]} does not exist; check the path"
    assert notes.startswith(f"{paths[1]} ")
    assert other.startswith(
        f"{paths[2]} is JSON, but neither a plan, nor a comparison.json, nor the output of gpmt bench --json; "
        "give a plan"
    )
    assert damaged.startswith(f"{paths[3]} is damaged: Expecting")
    assert folder == f"{tmp_path} is no run, but holds 1, such as run; give these: {tmp_path}/*"


def test_a_plan_that_does_not_add_up_is_a_problem(tmp_path: Path):
    make_all(tmp_path)
    document = json.loads((tmp_path / "plan.json").read_text())
    (tmp_path / "plan.json").write_text(json.dumps(document | {"kept": 3}))
    report = read_report([tmp_path / "plan.json", tmp_path / "run"])
    [problem] = report.problems
    assert problem.startswith(f"{tmp_path}/plan.json: its blocks have 10 weights (kept) together")


def test_nothing_at_all_is_an_error(tmp_path: Path):
    with pytest.raises(ReportError, match="give at least one path"):
        read_report([])
    with pytest.raises(ReportError) as caught:
        read_report([tmp_path / "a", tmp_path / "b"])
    assert str(caught.value) == (
        f"{tmp_path}/a does not exist; check the path. {tmp_path}/b does not exist; check the path"
    )


def test_latencies_go_to_what_they_are_of(tmp_path: Path):
    write_run(tmp_path / "run")
    torch.save({"fc.weight": torch.eye(10)}, tmp_path / "weights.pt")
    for name, of in (
        ("one.json", "weights.pt"),
        ("two.json", str(tmp_path / "run")),
        ("three.json", "absent.pt"),
    ):
        write_bench(tmp_path / name, of)
    report = read_report(
        [tmp_path / name for name in ("one.json", "two.json", "three.json", "run", "weights.pt")]
    )
    assert all(one.latency is not None for one in report.subjects)
    assert not any(text.startswith("latency:") for one in report.subjects for text in one.missing)
    [problem] = report.problems
    assert problem.startswith(f"{tmp_path}/three.json is of absent.pt, which is not in this report; ")


def test_runs_of_several_networks_are_said_not_to_compare(tmp_path: Path):
    write_run(tmp_path / "a")
    write_run(tmp_path / "b", recipe={"model": "large", "data": {"name": "cifar10"}})
    report = read_report([tmp_path / "a", tmp_path / "b"])
    assert report.problems == [
        "the runs are of several networks (small, large), so that their accuracies do not compare; report them one "
        "by one",
        "the runs are of several data sets (digits, cifar10), so that their accuracies do not compare; report them "
        "one by one",
    ]


@pytest.mark.slow
def test_a_real_run_is_told_in_full(tmp_path: Path):
    from gpmt.training.recipes.files import load_recipe
    from gpmt.training.run.run import run

    recipe = load_recipe("digits", ["dense.epochs=1", "finetune.epochs=1", "prune.min_kept=20"])
    metrics = run(recipe, tmp_path / "run", command="gpmt run digits", quiet=True)
    [told] = read_report([tmp_path / "run"]).subjects
    assert told.finished
    assert told.kept == metrics["kept"] == sum(layer.kept for layer in told.layers)
    assert sum(layer.macs_dense or 0 for layer in told.layers) == metrics["macs"]["dense"]
    assert sum(layer.macs_sparse or 0 for layer in told.layers) == metrics["macs"]["sparse"]
    assert told.parameters == metrics["parameters"]
    assert sum(told.histograms[0].after or ()) == told.kept
    assert [text.partition(":")[0] for text in told.missing] == ["latency"]
