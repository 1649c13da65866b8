import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gpmt.errors import BudgetError, CheckpointError, DataError, RecipeError, ScopeError
from gpmt.formats.checkpoint import load_checkpoint
from gpmt.masks import Masks
from gpmt.training.data import datasets
from gpmt.training.models import build
from gpmt.training.recipes.files import load_recipe
from gpmt.training.recipes.schema import Recipe
from gpmt.training.run import phase
from gpmt.training.run.run import Interrupted, run
from gpmt.verification import verify

SHORT = ["dense.epochs=2", "finetune.epochs=2", "dense.warmup_epochs=0"]
FILES = {
    "README.md", "best.pt", "dense.pt", "history.csv", "log.txt", "masks.safetensors", "metrics.json", "model.pt",
    "recipe.yaml",
}  # fmt: skip


def short(*overrides: str) -> Recipe:
    return load_recipe("digits", [*SHORT, *overrides])


@pytest.fixture(scope="session")
def small(shared_image_tree: Path) -> Callable[..., Recipe]:
    """A recipe, to be changed by overrides, that takes a second: augmentation, batch norm, odd last batch."""
    phases = [
        f"{phase}.{setting}" for phase in ("dense", "finetune") for setting in ("epochs=2", "batch_size=10")
    ]
    fixed = [*phases, f"data.root={shared_image_tree}", "min_kept=100", "compute.device=cpu"]
    return lambda *overrides: load_recipe("cifar10-resnet20", [*fixed, *overrides])


@pytest.fixture(scope="module")
def finished(small, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("runs") / "finished"
    return out, run(small(), out)


def comparable(metrics: dict[str, Any]) -> dict[str, Any]:
    """The metrics without what depends on the clock."""
    rest = {
        key: value
        for key, value in metrics.items()
        if key not in ("started", "finished", "seconds", "commands")
    }
    rest["history"] = {
        phase: [{k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for row in rows]
        for phase, rows in metrics["history"].items()
    }
    return rest


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(folder / "model.pt").state_dict


def same_weights(a: Path, b: Path) -> bool:
    first, second = weights(a), weights(b)
    return list(first) == list(second) and all(torch.equal(first[name], second[name]) for name in first)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("runs") / "digits"
    return out, run(short(), out, command="gpmt run digits")


def test_a_run_leaves_a_folder_that_explains_itself(digits):
    out, metrics = digits
    assert names(out) == FILES
    assert json.loads((out / "metrics.json").read_text()) == metrics
    assert load_recipe(str(out / "recipe.yaml")) == short()
    assert metrics["commands"] == ["gpmt run digits"]
    assert metrics["seed"] == 0
    assert metrics["images"] == {"train": 1442, "test": 355}
    assert metrics["versions"]["torch"] == torch.__version__
    assert metrics["machine"]["threads"] == torch.get_num_threads()
    assert metrics["seconds"]["dense"] > 0
    log = (out / "log.txt").read_text().splitlines()
    assert sum("dense epoch" in line for line in log) == 2
    assert sum("finetune epoch" in line for line in log) == 2


def test_the_last_epoch_of_each_phase_is_what_is_reported(digits):
    _, metrics = digits
    history = metrics["history"]
    assert [row["epoch"] for row in history["dense"]] == [0, 1, 2]
    assert [row["lr"] for row in history["finetune"][1:]] == [0.1, 0.05]
    assert metrics["dense"] == history["dense"][2]["test"]
    assert metrics["pruned"] == history["finetune"][0]["test"]
    assert metrics["finetuned"] == history["finetune"][2]["test"]
    assert metrics["dense"]["top1"] > 0.5 > metrics["pruned"]["top1"]
    assert metrics["finetuned"]["top1"] > metrics["pruned"]["top1"]


def test_what_was_pruned_is_exactly_zero_after_fine_tuning(digits):
    out, metrics = digits
    masks, tensors = Masks.load(out / "masks.safetensors"), weights(out)
    assert masks.total_pruned == metrics["weights"] - metrics["kept"] == metrics["weights"] * 93 // 100
    for name in masks:
        assert not tensors[name][~masks[name]].any()
    assert metrics["verification"]["ok"]
    assert verify(out / "model.pt", sparsity=0.93, min_kept="0.25%", masks=masks)
    assert metrics["fewest_kept"]["kept"] == min(masks.kept(name) for name in masks)
    assert metrics["macs"]["sparse"] < 0.5 * metrics["macs"]["dense"]


def test_the_files_load_into_a_plain_network(digits):
    out, metrics = digits
    network = build("mobilenet-digits", num_classes=10, input_shape=(1, 8, 8))
    for name, key in (("dense.pt", "dense"), ("model.pt", "finetuned")):
        checkpoint = load_checkpoint(out / name)
        assert checkpoint.container["gpmt"]["model"] == {"name": "mobilenet-digits", "num_classes": 10}
        assert checkpoint.container["gpmt"]["input_shape"] == [1, 8, 8]
        network.load_state_dict(checkpoint.state_dict)
        network.eval()
        source = datasets.load("digits", root=None)
        hits = sum(
            int((network(images).argmax(1) == labels).sum()) for images, labels in source.test_batches(100)
        )
        assert hits / 355 == metrics[key]["top1"]


def test_the_same_seed_gives_identical_results_and_another_does_not(finished, small, tmp_path: Path):
    out, metrics = finished
    again = run(small(), tmp_path / "again")
    assert comparable(again) == comparable(metrics)
    assert same_weights(tmp_path / "again", out)
    other = run(small("seed=1", "dense.epochs=1", "finetune.epochs=0"), tmp_path / "other")
    assert other["history"]["dense"][1]["train"] != metrics["history"]["dense"][1]["train"]


def stop(monkeypatch: pytest.MonkeyPatch, *, epochs: int, images: int = 0) -> None:
    """Press Ctrl-C in the epoch after `epochs` whole ones, once more than `images` were seen in it."""
    real, done = phase.train_epoch, []

    def train_epoch(*args: Any, advance: Any, **settings: Any) -> Any:
        seen = 0

        def watched(count: int, loss: torch.Tensor) -> None:
            nonlocal seen
            seen += count
            if len(done) == epochs and seen > images:
                raise KeyboardInterrupt
            advance(count, loss)

        score = real(*args, advance=watched, **settings)
        done.append(1)
        return score

    monkeypatch.setattr(phase, "train_epoch", train_epoch)


@pytest.mark.parametrize(
    ("epochs", "phrase"),
    [
        (1, "in epoch 2 of 2 of dense"),
        (3, "in epoch 2 of 2 of finetune"),
    ],
)
def test_a_resumed_run_equals_one_that_was_not_stopped(
    finished, small, tmp_path: Path, monkeypatch, epochs, phrase
):
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        stop(patch, epochs=epochs, images=20)
        with pytest.raises(Interrupted, match=f"^{phrase}$"):
            run(small(), out, command="first")
    assert "metrics.json" not in names(out)
    metrics = run(small(), out, resume=True, command="second")
    assert comparable(metrics) == comparable(finished[1])
    assert metrics["commands"] == ["first", "second"]
    assert same_weights(out, finished[0])
    assert names(out) == FILES


def test_a_run_killed_while_it_writes_goes_on(finished, small, tmp_path: Path, monkeypatch):
    """After the last state and before the metrics, everything that follows is done again."""
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(
            "gpmt.training.run.run.verify", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        with pytest.raises(Interrupted):
            run(small(), out)
    (out / "model.pt").unlink()
    assert comparable(run(small(), out, resume=True)) == comparable(finished[1])
    assert same_weights(out, finished[0])


def test_resuming_a_finished_run_returns_it_unchanged(finished, small):
    out, metrics = finished
    before = (out / "metrics.json").stat().st_mtime_ns
    assert run(small(), out, resume=True) == metrics
    assert (out / "metrics.json").stat().st_mtime_ns == before


def test_resuming_where_nothing_is_starts(small, tmp_path: Path):
    metrics = run(small("dense.epochs=1", "finetune.epochs=0"), tmp_path / "run", resume=True)
    assert metrics["finetuned"] == metrics["pruned"]


def test_resuming_with_another_recipe_is_refused(finished, small):
    with pytest.raises(
        RecipeError, match=r"another recipe \(finetune.lr 0.01 there, 0.2 now\); go on with `gpmt run"
    ):
        run(small("finetune.lr=0.2"), finished[0], resume=True)


def test_an_existing_run_is_overwritten_only_when_forced(finished, small, tmp_path: Path):
    out = tmp_path / "run"
    shutil.copytree(finished[0], out)
    (out / "notes.txt").write_text("mine")
    recipe = small("dense.epochs=1", "finetune.epochs=0")
    with pytest.raises(
        RecipeError, match=r"run is not empty; choose another folder with --out, go on with --resume"
    ):
        run(recipe, out)
    assert same_weights(out, finished[0])
    metrics = run(recipe, out, force=True)
    assert len(metrics["history"]["dense"]) == 2
    assert names(out) == (FILES - {"best.pt"}) | {"notes.txt"}  # of no epoch is the best
    assert "epoch 2/2" not in (out / "log.txt").read_text()


def test_a_dense_checkpoint_serves_several_prunings(finished, small, tmp_path: Path):
    out, metrics = finished
    for sparsity in (0.5, 0.95):
        recipe = small(
            f"checkpoint={out / 'dense.pt'}", "dense.epochs=0", f"sparsity={sparsity}", "finetune.epochs=0"
        )
        pruned = run(recipe, tmp_path / str(sparsity))
        assert pruned["dense"] == metrics["dense"]
        assert pruned["kept"] == metrics["weights"] - int(metrics["weights"] * sparsity)


def test_pruning_an_adapted_checkpoint_equals_the_run_that_adapted_it(finished, small, tmp_path: Path):
    out, metrics = finished
    pruned = run(small(f"checkpoint={out / 'dense.pt'}", "dense.epochs=0"), tmp_path / "run")
    assert pruned["finetuned"] == metrics["finetuned"]
    assert same_weights(tmp_path / "run", out)


def test_a_checkpoint_is_scored_before_it_is_adapted(finished, small, tmp_path: Path):
    out, metrics = finished
    recipe = small(
        f"checkpoint={out / 'dense.pt'}", "dense.epochs=1", "dense.warmup_epochs=0", "finetune.epochs=0"
    )
    assert run(recipe, tmp_path / "run")["history"]["dense"][0]["test"] == metrics["dense"]


def test_an_allocation_that_meets_the_total_only_nearly(small, tmp_path: Path):
    metrics = run(small("allocation=reference", "exclude=conv1.weight", "min_kept=0"), tmp_path / "run")
    assert metrics["verification"]["ok"]
    assert metrics["weights"] == 268_336 - 432 - 4 * 64  # 6 classes, not 10
    assert abs(metrics["sparsity"] - 0.9) < 1e-4
    assert weights(tmp_path / "run")["conv1.weight"].all()


@pytest.mark.parametrize(
    ("overrides", "error", "sentence"),
    [
        (["sparsity=0.9999", "min_kept=10%"], BudgetError, "sparsity 0.9999 keeps . of .* but the minimum of"),
        (["exclude=stam.weight"], ScopeError, "stam.weight"),
        (["data.name=cifar10"], DataError, "data.root is not given"),
        (["model=lenet5-caffe"], RecipeError, "images are 8×8, but LeNet-5-Caffe needs at least 16×16"),
        (["checkpoint=nowhere.pt"], CheckpointError, "nowhere.pt does not exist"),
        (["checkpoint=other.pt"], CheckpointError, r"other.pt does not fit mobilenet-digits: .* \(stem.weight"),
        (["checkpoint=classes.pt"], CheckpointError, r"classes.pt has classifier.weight of shape \(7, 64\)"),
    ],
)  # fmt: skip
def test_what_cannot_work_fails_before_the_folder_is_touched(
    tmp_path: Path, monkeypatch, overrides, error, sentence
):
    monkeypatch.chdir(tmp_path)
    torch.save({"a.weight": torch.zeros(2, 2)}, "other.pt")
    torch.save(build("mobilenet-digits", num_classes=7, input_shape=(1, 8, 8)).state_dict(), "classes.pt")
    with pytest.raises(error, match=sentence):
        run(short(*overrides), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_loss_that_diverges_names_the_learning_rate_and_keeps_the_last_state(tmp_path: Path):
    out = tmp_path / "run"
    with pytest.raises(
        RecipeError, match=r"the loss became nan in epoch 1 of dense; lower dense.lr, which is 1e\+30"
    ):
        run(short("dense.lr=1e30"), out)
    assert len(torch.load(out / "state.pt", weights_only=True)["record"]["history"]["dense"]) == 1


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:1000]), "state.pt is damaged"),
        (lambda path: torch.save({"version": 99}, path), "state.pt has version 99, but this gpmt goes on from"),
    ],
)  # fmt: skip
def test_a_state_that_cannot_be_used_is_refused(tmp_path: Path, monkeypatch, damage, sentence):
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        stop(patch, epochs=0)
        with pytest.raises(Interrupted):
            run(short(), out)
    damage(out / "state.pt")
    with pytest.raises(CheckpointError, match=sentence):
        run(short(), out, resume=True)


def test_a_file_in_the_place_of_the_folder(tmp_path: Path):
    (tmp_path / "run").write_text("")
    for options in ({}, {"force": True}, {"resume": True}):
        with pytest.raises((RecipeError, CheckpointError), match="run"):
            run(short(), tmp_path / "run", **options)
    assert (tmp_path / "run").read_text() == ""


def gpmt(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from gpmt.cli import main; main()", *arguments]


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_result(digits, tmp_path: Path):
    out = tmp_path / "run"
    # One thread, as this process uses: the number of threads changes the last bits of sums.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = gpmt("run", "digits", *SHORT, "--out", str(out))
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment)
    deadline = time.monotonic() + 120
    while not (out / "dense.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert comparable(run(short(), out, resume=True)) == comparable(digits[1])
    assert same_weights(out, digits[0])


@pytest.mark.slow
def test_two_processes_share_a_run(tmp_path: Path):
    out = tmp_path / "run"
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--no-python"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    arguments = gpmt("run", "digits", *SHORT, "--out", str(out), "--json")
    result = subprocess.run(
        [*launch, *arguments], env=environment, capture_output=True, text=True, check=True
    )
    metrics = json.loads(result.stdout)  # one process reports
    assert metrics["machine"]["processes"] == 2
    assert metrics["verification"]["ok"]
    assert metrics["finetuned"]["images"] == 355
    assert metrics["finetuned"]["top1"] > 0.2
