import json
from pathlib import Path

import pytest
from tests.html_reader import HtmlReader
from tests.runs.examples import changed, finished_run, metrics, stopped_run, sweep

from gpmt.errors import CheckpointError, RecipeError
from gpmt.runs.side_by_side import compare_runs


def test_settings_that_differ_and_results(tmp_path: Path):
    other = changed(
        title="another", prune={"sparsity": 0.95, "exclude": ["fc.*"]}, dense={"lr": 0.2}, log=["wandb"]
    )
    compared = compare_runs(
        [finished_run(tmp_path / "a"), finished_run(tmp_path / "b", other, sparsity=0.97)]
    )
    assert compared.settings == {
        "dense.lr": [0.1, 0.2],
        "prune.sparsity": [0.9, 0.95],
        "prune.exclude": [None, ["fc.*"]],
    }
    first, second = compared.to_dict()["runs"]
    assert (first["name"], first["sparsity"], second["sparsity"]) == ("a", 0.95, 0.97)
    assert (first["weights"], first["kept"], first["floor"], first["binding"], first["dead"]) == (
        1000,
        50,
        10,
        1,
        [],
    )
    assert first["top1"] == {"dense": 0.9, "pruned": 0.2, "recalibrated": None, "finetuned": 0.875}
    assert first["macs"] == {"dense": 10_000, "sparse": 2_500}
    assert first["fewest_kept"] == {"kept": 10, "name": "fc.weight"}
    assert first["seconds"] == 7.5


def test_a_notebook_shows_runs_as_a_table(tmp_path: Path):
    other = changed(dense={"lr": "<b>"})
    compared = compare_runs(
        [finished_run(tmp_path / "a"), finished_run(tmp_path / "b", other, sparsity=0.97)]
    )
    assert HtmlReader(compared._repr_html_()).rows == [
        ["", "a", "b"],
        ["dense.lr", "0.1", "<b>"],
        ["state", "finished", "finished"],
        ["sparsity", "95.00 %", "97.00 %"],
        ["kept", "50", "50"],
        ["top-1 dense", "90.00 %", "90.00 %"],
        ["top-1 pruned", "20.00 %", "20.00 %"],
        ["top-1 finetuned", "87.50 %", "87.50 %"],
        ["seconds", "7.5", "7.5"],
    ]


def test_layers_side_by_side(tmp_path: Path):
    blocks = [
        {"name": "qkv.weight[q]", "weights": 10, "kept": 4},
        {"name": "qkv.weight[k]", "weights": 10, "kept": 0},
    ]
    tensors = [{"name": "qkv.weight", "weights": 20, "kept": 4, "blocks": blocks}]
    planned = [{"name": "qkv.weight", "blocks": [row | {"floor": 4, "binds": True} for row in blocks[:1]]}]
    paths = [
        finished_run(tmp_path / "a"),
        finished_run(tmp_path / "b", verification={"tensors": tensors}, plan={"tensors": planned}),
    ]
    layers = {row["name"]: row["runs"] for row in compare_runs(paths).to_dict(layers=True)["layers"]}
    assert list(layers) == ["conv.weight", "fc.weight", "qkv.weight[q]", "qkv.weight[k]"]
    assert layers["fc.weight"] == [
        {"weights": 900, "kept": 10, "density": 10 / 900, "floor": 10, "binds": True},
        None,
    ]
    assert layers["qkv.weight[q]"][1] == {"weights": 10, "kept": 4, "density": 0.4, "floor": 4, "binds": True}
    assert layers["qkv.weight[k]"][1] == {
        "weights": 10,
        "kept": 0,
        "density": 0.0,
        "floor": None,
        "binds": None,
    }


def test_columns_are_counted_as_such(tmp_path: Path):
    tensors = [{"name": "fc.weight", "columns": 8, "kept": 2}]
    path = finished_run(tmp_path / "a", unit="columns", verification={"tensors": tensors})
    compared = compare_runs([path, finished_run(tmp_path / "b")])
    assert compared.runs[0].layers["fc.weight"]["density"] == 0.25
    assert compared.to_dict()["runs"][0]["unit"] == "columns"


def test_a_run_without_a_result_tells_what_it_measured(tmp_path: Path):
    compared = compare_runs([finished_run(tmp_path / "a"), stopped_run(tmp_path / "b")])
    run = compared.to_dict()["runs"][1]
    assert (run["state"], run["sparsity"], run["kept"], run["dead"]) == ("interrupted", 0.9, None, None)
    assert (run["top1"]["dense"], run["top1"]["finetuned"], run["epochs"]) == (0.9, 0.85, 3)
    assert compared.settings == {}


def test_names_are_the_shortest_that_differ(tmp_path: Path):
    paths = [finished_run(tmp_path / one / two) for one, two in (("a", "x"), ("b", "x"), ("b", "y"))]
    assert [run.name for run in compare_runs(paths).runs] == ["a/x", "b/x", "b/y"]
    assert [run.name for run in compare_runs(paths[:1] * 2).runs] == [str(paths[0])] * 2


def test_what_is_not_a_run(tmp_path: Path):
    one = finished_run(tmp_path / "a")
    grid = sweep(tmp_path / "sweep", "x")
    for paths, sentence in (
        ([one], f"{one} is one run; give another to compare it with"),
        (
            [one, Path("digits")],
            "digits is not the folder of a run; give runs alone, or a recipe and KEY=VALUE",
        ),
        (
            [one, grid],
            f"{grid} is the folder of a sweep; give those of its runs, which gpmt runs --all lists",
        ),
    ):
        with pytest.raises(RecipeError) as raised:
            compare_runs(paths)
        assert str(raised.value) == sentence


def test_damaged_metrics(tmp_path: Path):
    one, two = finished_run(tmp_path / "a"), finished_run(tmp_path / "b")
    (two / "metrics.json").write_text("{")
    with pytest.raises(
        CheckpointError, match=r"b: metrics.json is damaged: .*; leave it out, or run it again"
    ):
        compare_runs([one, two])
    nonsense = metrics() | {
        "plan": [],
        "verification": {"tensors": [1, {"name": 2}]},
        "dead": 3,
        "macs": None,
    }
    (two / "metrics.json").write_text(json.dumps(nonsense))
    compared = compare_runs([one, two])
    assert compared.runs[1].results["dead"] is None
    assert compared.runs[1].layers == {
        "2": {"weights": None, "kept": None, "density": None, "floor": None, "binds": None}
    }
