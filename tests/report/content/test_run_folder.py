import json
from pathlib import Path

import pytest
import torch
from tests.report.folders import HOSTILE, write_bench, write_history, write_run

import gpmt
from gpmt.report.content.run_folder import read_run


def test_a_finished_run_is_told_in_full(tmp_path: Path):
    path = tmp_path / "run"
    metrics = write_run(path)
    write_bench(path / "bench.json", str(path))
    problems: list[str] = []
    run = read_run(path, problems)
    assert problems == []
    assert (run.kind, run.finished, run.title) == ("run", True, f"A small network {HOSTILE}")
    assert (run.asked, run.minimum, run.unit) == ("90 %", "20", "weights")
    assert (run.numel, run.kept) == (metrics["weights"], metrics["kept"])
    assert (run.schedule, run.method, run.allocation, run.seed) == ("one-shot", "hard", "exact", 0)
    assert run.thresholds == {"": metrics["plan"]["threshold"]}
    assert run.epochs == {"dense": 2, "finetune": 3}
    assert [score.stage for score in run.scores] == ["dense", "pruned", "finetuned"]
    assert (run.macs_dense, run.macs_sparse) == (metrics["macs"]["dense"], metrics["macs"]["sparse"])
    assert run.macs_rule
    assert run.verified is True
    assert run.latency is not None
    assert (run.latency.dense_ms, run.latency.sparse_ms, run.latency.batch) == (3.0, 1.0, 1)
    assert run.commands == ("gpmt run small",)
    assert run.versions["torch"] == "2.10"
    assert run.recipe["prune"]["sparsity"] == 0.9
    assert run.missing == []
    assert [(epoch.phase, epoch.number) for epoch in run.history] == [
        ("dense", 0),
        ("finetune", 0),
        ("finetune", 1),
    ]
    assert run.history[-1].values["train_top1"] == 0.5
    assert run.history[-1].values["sparsity"] == 0.9


def test_layers_are_the_blocks_of_the_plan_with_what_is_left(tmp_path: Path):
    path = tmp_path / "run"
    metrics = write_run(path)
    run = read_run(path, [])
    state = torch.load(path / "model.pt")["state_dict"]
    names = [layer.name for layer in run.layers]
    assert names == [
        "conv.weight",
        *(f"attention.in_proj_weight.{part}" for part in "qkv"),
        "attention.out_proj.weight",
        f"{HOSTILE}.weight",
    ]
    assert sum(layer.numel for layer in run.layers) == run.numel
    assert sum(layer.kept for layer in run.layers) == run.kept
    by_name = {layer.name: layer for layer in run.layers}
    for part, rows in zip("qkv", state["attention.in_proj_weight"].chunk(3), strict=True):
        layer = by_name[f"attention.in_proj_weight.{part}"]
        assert (layer.tensor, layer.kind, layer.shape) == (
            "attention.in_proj_weight",
            "MultiheadAttention",
            (16, 16),
        )
        assert layer.kept == int((rows != 0).sum())
        assert layer.outputs == 16
        assert layer.live_outputs == int((rows != 0).any(1).sum())
    conv = by_name["conv.weight"]
    assert (conv.kind, conv.floor, conv.macs_dense) == ("Conv2d", 20, 216_000)
    assert sum(layer.macs_dense or 0 for layer in run.layers) == metrics["macs"]["dense"]
    assert len(run.binding) == sum(
        block["binds"] for row in metrics["plan"]["tensors"] for block in row.get("blocks", [row])
    )


def test_weights_tell_parameters_histograms_channels_and_sizes(tmp_path: Path):
    path = tmp_path / "run"
    metrics = write_run(path)
    run = read_run(path, [])
    state = torch.load(path / "model.pt")["state_dict"]
    plain = [tensor for name, tensor in state.items() if "running" not in name and "tracked" not in name]
    assert run.parameters == metrics["parameters"] == sum(tensor.numel() for tensor in plain)
    assert run.nonzero_parameters == sum(int((tensor != 0).sum()) for tensor in plain)
    whole, *each = run.histograms
    assert [one.name for one in each] == [layer.name for layer in run.layers]
    assert whole.threshold == run.thresholds[""]
    assert whole.before is not None
    assert whole.after is not None
    assert sum(whole.after) == run.kept
    assert sum(whole.before) + whole.zeros_before == run.numel
    assert all(sum(one.after or ()) == layer.kept for one, layer in zip(each, run.layers, strict=True))
    maps = {one.tensor: one for one in run.channels}
    assert sum(maps["conv.weight"].kept_by_input) == int((state["conv.weight"] != 0).sum())
    assert len(maps["attention.in_proj_weight"].kept_by_output) == 48
    assert run.sizes.dense == sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    assert None not in (run.sizes.gzip, run.sizes.sparse)


def test_dead_layers_and_failed_checks_are_warnings(tmp_path: Path):
    path = tmp_path / "run"
    metrics = write_run(path, sparsity=0.98, min_kept=0)
    checks = [
        *metrics["verification"]["checks"],
        {"name": "total", "status": "failed", "message": "3 too few"},
    ]
    metrics["verification"]["checks"] = checks
    (path / "metrics.json").write_text(json.dumps(metrics | {"verified": False}))
    run = read_run(path, [])
    dead = [layer.name for layer in run.layers if not layer.kept]
    assert dead
    assert any("keep none of their weights" in text or "keeps none of its" in text for text in run.warnings)
    assert all(name in " ".join(run.warnings) for name in dead[:3])
    assert "verification failed: 3 too few" in run.warnings


def test_a_diverged_loss_is_a_warning(tmp_path: Path):
    path = tmp_path / "run"
    write_run(path, finetuned={"loss": float("nan"), "top1": 0.1, "top5": 0.5, "images": 10})
    run = read_run(path, [])
    assert "training diverged: a loss is not finite; lower the learning rate" in run.warnings
    assert run.score("finetuned").loss is None


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("dense.pt", "magnitudes before pruning: {path}/dense.pt, the dense network, is missing"),
        ("model.pt", "channels, sizes and magnitudes after pruning: {path}/model.pt is missing"),
        ("bench.json", "latency: it is not measured; gpmt bench {path} --json > {path}/bench.json does it"),
    ],
)
def test_what_a_missing_file_would_tell_is_said(tmp_path: Path, name: str, sentence: str):
    path = tmp_path / "run"
    write_run(path)
    (path / name).unlink(missing_ok=True)
    problems: list[str] = []
    run = read_run(path, problems)
    assert problems == []
    assert any(text.startswith(sentence.format(path=path)) for text in run.missing)
    assert run.kept
    assert len(run.layers) == 6


def test_metrics_of_earlier_versions_lack_the_macs_of_layers(tmp_path: Path):
    path = tmp_path / "run"
    write_run(path, macs={"dense": 5, "sparse": 2})
    run = read_run(path, [])
    assert (run.macs_dense, run.macs_sparse) == (5, 2)
    assert any(text.startswith("multiply-accumulates of each layer: ") for text in run.missing)


@pytest.mark.parametrize(
    ("content", "reason"), [("{", "is damaged"), ("{}", "has no count of the weights that are kept")]
)
def test_a_run_with_damaged_metrics_tells_what_other_files_do(tmp_path: Path, content: str, reason: str):
    path = tmp_path / "run"
    metrics = write_run(path)
    (path / "metrics.json").write_text(content)
    problems: list[str] = []
    run = read_run(path, problems)
    assert len(problems) == 1
    assert problems[0].startswith(f"{path}/metrics.json {reason}")
    assert problems[0].endswith(f"; gpmt run {path}/recipe.yaml -o FOLDER makes the run again")
    assert run.kept == metrics["kept"]
    assert run.history[-1].values == {"test_top1": 0.4, "sparsity": 0.9}
    assert run.asked == "90 %"
    assert run.histograms


def test_a_run_that_goes_on_tells_how_far_it_got(tmp_path: Path):
    path = tmp_path / "run"
    write_run(path)
    for name in ("metrics.json", "model.pt", "masks.safetensors"):
        (path / name).unlink()
    (path / "log.txt").write_text("2026-01-01 10:00:00 diverged: the loss became nan in epoch 2\n")
    run = read_run(path, [])
    assert not run.finished
    assert run.warnings == ["the run diverged: the loss became nan in epoch 2"]
    assert [epoch.number for epoch in run.history] == [0, 1, 0]
    assert run.score("dense").top1 == 0.9
    assert any("--resume goes on where it was stopped" in text for text in run.missing)
    assert run.layers == []


def test_the_state_of_a_run_that_goes_on_has_its_plan(tmp_path: Path):
    path = tmp_path / "run"
    metrics = write_run(path)
    state = torch.load(path / "model.pt")["state_dict"]
    record = {key: metrics[key] for key in ("plan", "history", "commands", "seconds")}
    torch.save({"version": 2, "phase": "finetune", "record": record, "model": state}, path / "state.pt")
    for name in ("metrics.json", "model.pt"):
        (path / name).unlink()
    run = read_run(path, [])
    assert not run.finished
    assert sum(layer.kept for layer in run.layers) == run.kept == metrics["kept"]
    assert run.histograms[0].after is not None
    assert run.commands == ("gpmt run small",)


def test_a_run_that_prunes_an_untrained_network_has_no_dense_accuracy(tmp_path: Path):
    path = tmp_path / "run"
    write_run(path, recipe={"dense": {"epochs": 0, "checkpoint": None}}, pruned=None)
    run = read_run(path, [])
    assert run.score("dense") is None
    assert run.score("pruned") is None
    assert any(text.startswith("dense accuracy: ") for text in run.missing)
    assert any(text.startswith("accuracy right after pruning: ") for text in run.missing)


def test_the_latency_of_another_network_is_a_problem(tmp_path: Path):
    path = tmp_path / "run"
    write_run(path)
    write_bench(path / "bench.json", "elsewhere/other")
    problems: list[str] = []
    assert read_run(path, problems).latency is None
    [problem] = problems
    assert problem.startswith(
        f"{path}/bench.json is of elsewhere/other, not of this run; gpmt bench {path} --json"
    )


def test_nothing_is_written(tmp_path: Path):
    path = tmp_path / "run"
    write_run(path)
    write_history(path / "history.csv")
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    read_run(path, [])
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before
    assert gpmt.load(path).masks is None
