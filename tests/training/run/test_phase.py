"""What training offers beyond the plain loop, through whole runs on the digits."""

import csv
from pathlib import Path
from typing import Any

import pytest
import torch

from gpmt.errors import CheckpointError, RecipeError
from gpmt.formats.checkpoint import load_checkpoint
from gpmt.masks import Masks
from gpmt.training.recipes.files import load_recipe
from gpmt.training.recipes.schema import Recipe
from gpmt.training.run import phase
from gpmt.training.run.run import Interrupted, Stopped, run

SHORT = (
    "data.train_limit=320", "data.test_limit=100", "dense.epochs=2", "finetune.epochs=2", "dense.warmup_epochs=0"
)  # fmt: skip


def short(*overrides: str) -> Recipe:
    return load_recipe("digits", [*SHORT, *overrides])


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose dense network the others take."""
    out = tmp_path_factory.mktemp("runs") / "dense"
    run(short(), out)
    return out


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(path).state_dict


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)


def interrupt(monkeypatch: pytest.MonkeyPatch, *, epoch: int) -> None:
    """Press Ctrl-C in the middle of the epoch `epoch` of this start."""
    real, started = phase.train_epoch, []

    def train_epoch(*args: Any, advance: Any, **settings: Any) -> Any:
        started.append(1)

        def watched(count: int, loss: torch.Tensor) -> None:
            if len(started) == epoch:
                raise KeyboardInterrupt
            advance(count, loss)

        return real(*args, advance=watched, **settings)

    monkeypatch.setattr(phase, "train_epoch", train_epoch)


EVERYTHING = (
    "schedule=gradual", "interval=0.4", "finetune.ema=0.9", "finetune.distill=0.5", "finetune.accumulate=3",
    "finetune.clip_norm=1", "finetune.lr_per_step=true", "finetune.decay_norms=false", "finetune.optimizer=adamw",
    "finetune.nesterov=false", "finetune.lr=0.01",
)  # fmt: skip


@pytest.mark.parametrize(
    "overrides",
    [EVERYTHING, ("schedule=ac-dc", "finetune.epochs=5"), ("recalibrate=100", "start=0")],
    ids=["gradual and all else", "ac-dc", "one-shot"],
)
def test_a_run_stopped_anywhere_goes_on_to_the_same_weights(
    dense: Path, tmp_path: Path, monkeypatch, overrides
):
    recipe = short(*overrides)
    whole = run(recipe, tmp_path / "whole", dense_from=dense)
    with monkeypatch.context() as patch:
        interrupt(patch, epoch=2)
        with pytest.raises(Interrupted, match=r"in epoch 2 of . of finetune"):
            run(recipe, tmp_path / "parts", dense_from=dense)
    parts = run(recipe, tmp_path / "parts", resume=True)
    for file in ("model.pt", "best.pt", "dense.pt"):
        assert equal(weights(tmp_path / "whole" / file), weights(tmp_path / "parts" / file))
    assert Masks.load(tmp_path / "parts/masks.safetensors") == Masks.load(
        tmp_path / "whole/masks.safetensors"
    )
    for key in ("dense", "pruned", "recalibrated", "finetuned", "plan", "best", "kept"):
        assert parts[key] == whole[key]
    assert whole["verification"]["ok"]
    assert whole["weights"] - whole["kept"] == whole["weights"] * 93 // 100


def test_a_schedule_prunes_while_it_trains_without_a_dense_network(tmp_path: Path):
    metrics = run(short("schedule=gradual", "dense.epochs=0", "finetune.epochs=4"), tmp_path / "run")
    sparsities = [row["sparsity"] for row in metrics["history"]["finetune"][1:]]
    assert sparsities == sorted(sparsities)
    assert 0 < sparsities[0] < sparsities[1] < sparsities[2] == sparsities[3] == metrics["sparsity"]
    assert metrics["pruned"] is None
    assert metrics["best"]["epoch"] >= 3  # of the epochs with the final masks


def test_one_shot_in_the_middle_of_training(tmp_path: Path):
    metrics = run(short("start=1", "dense.epochs=0"), tmp_path / "run")
    assert [row["sparsity"] for row in metrics["history"]["finetune"][1:]] == [metrics["sparsity"]] * 2
    assert metrics["pruned"] is None


def test_the_dense_network_of_another_run_is_taken_with_its_history(dense: Path, tmp_path: Path):
    there = run(short("sparsity=0.5"), tmp_path / "taken", dense_from=dense)
    own = run(short("sparsity=0.5"), tmp_path / "own")
    assert there["finetuned"] == own["finetuned"]
    assert there["dense"] == own["dense"]
    assert there["dense_from"] == str(dense)
    assert equal(weights(tmp_path / "taken/model.pt"), weights(tmp_path / "own/model.pt"))


def test_a_dense_network_of_other_settings_is_refused(dense: Path, tmp_path: Path):
    with pytest.raises(RecipeError, match=r"comes from other settings \(seed, dense differ\)"):
        run(short("seed=1", "dense.lr=0.2"), tmp_path / "run", dense_from=dense)
    with pytest.raises(RecipeError, match=r"holds no run \(recipe.yaml is missing\)"):
        run(short(), tmp_path / "run", dense_from=tmp_path)
    assert not (tmp_path / "run").exists()


def test_an_allowance_of_epochs_stops_the_run_which_then_goes_on(dense: Path, tmp_path: Path):
    with pytest.raises(Stopped, match=r"^after 1 epoch, in epoch 1 of 2 of dense$"):
        run(short(), tmp_path / "run", max_epochs=1)
    with pytest.raises(Stopped, match=r"^after 0 minutes, in epoch 2 of 2 of dense$"):
        run(short(), tmp_path / "run", resume=True, max_minutes=0)
    run(short(), tmp_path / "run", resume=True)
    assert equal(weights(tmp_path / "run/model.pt"), weights(dense / "model.pt"))


def test_accumulating_gradients_changes_the_sums_alone(tmp_path: Path):
    """Without batch norms, parts of a batch give the gradient of the whole."""
    common = ("model=tests.training.run.test_phase:plain_network", "dense.epochs=1", "finetune.epochs=0")
    run(short(*common), tmp_path / "whole")
    run(short(*common, "dense.accumulate=4"), tmp_path / "parts")
    whole, parts = (weights(tmp_path / name / "dense.pt") for name in ("whole", "parts"))
    for name in whole:
        torch.testing.assert_close(whole[name], parts[name], rtol=1e-4, atol=1e-5)


def plain_network(num_classes: int, input_shape: tuple[int, ...]) -> torch.nn.Module:
    size = torch.Size(input_shape).numel()
    return torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(size, 16), torch.nn.ReLU(), torch.nn.Linear(16, num_classes)
    )


def test_recalibration_gives_the_pruned_network_a_start(tmp_path: Path):
    recipe = short("dense.epochs=6", "sparsity=0.5", "finetune.epochs=0", "recalibrate=320", "dense.lr=0.05")
    metrics = run(recipe, tmp_path / "run")
    assert metrics["recalibrated"]["top1"] > metrics["pruned"]["top1"] + 0.1
    assert metrics["finetuned"] == metrics["recalibrated"]


def test_the_average_is_what_is_evaluated_and_written(dense: Path, tmp_path: Path):
    metrics = run(short("finetune.ema=0.5", "dense.ema=0.5"), tmp_path / "run")
    masks = Masks.load(tmp_path / "run/masks.safetensors")
    written = weights(tmp_path / "run/model.pt")
    assert all(not written[name][~masks[name]].any() for name in masks)
    assert not equal(written, weights(dense / "model.pt"))
    assert not equal(weights(tmp_path / "run/dense.pt"), weights(dense / "dense.pt"))
    assert metrics["verification"]["ok"]


def test_curves_are_written_as_csv_and_for_tensorboard(tmp_path: Path):
    out = tmp_path / "run"
    with pytest.raises(Stopped):
        run(short(), out, max_epochs=3, tensorboard=True)
    run(short(), out, resume=True)
    with (out / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["phase"], row["epoch"]) for row in rows] == [
        (name, str(epoch)) for name in ("dense", "finetune") for epoch in range(3)
    ]
    assert float(rows[-1]["sparsity"]) == pytest.approx(0.93, abs=1e-4)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(out / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("finetune/test_top1")] == [0, 1, 2]
    assert events.Scalars("dense/test_top1")[2].value == pytest.approx(float(rows[2]["test_top1"]))


def test_columns_are_pruned_and_verified_as_columns(tmp_path: Path):
    recipe = short(
        "model=tests.training.run.test_phase:plain_network", "granularity=column", "scope=['1','3']", "sparsity=0.5",
        "min_kept=10",
    )  # fmt: skip
    metrics = run(recipe, tmp_path / "run")
    assert metrics["weights"] == 64 + 16
    assert metrics["kept"] == 40
    assert metrics["verification"]["ok"]


def test_a_gpu_recipe_says_so_and_offers_another(tmp_path: Path):
    if torch.accelerator.is_available():
        pytest.skip("there is a GPU")
    recipe = short().model_copy(
        update={"expects": short().expects.model_copy(update={"device": "gpu", "on_cpu": "digits"})}
    )
    with pytest.raises(
        RecipeError, match=r"is for a GPU, but PyTorch finds none here; run the CPU version, `gpmt"
    ):
        run(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("compute.precision=fp16", "compute.precision is fp16, which needs a GPU"),
        ("compute.sharding=fsdp2", "compute.sharding is fsdp2, but there is one process; start several"),
    ],
)
def test_what_the_machine_lacks_is_one_sentence(tmp_path: Path, override, sentence):
    if torch.accelerator.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(RecipeError, match=sentence):
        run(short(override), tmp_path / "run")


def test_bf16_trains_float32_weights(dense: Path, tmp_path: Path):
    metrics = run(short("compute.precision=bf16", "dense.epochs=1", "finetune.epochs=1"), tmp_path / "run")
    assert metrics["machine"]["mixed_precision"] == "bf16"
    assert all(t.dtype != torch.bfloat16 for t in weights(tmp_path / "run/model.pt").values())
    # and the next run in this process is in float32 again
    assert run(short("dense.epochs=0", "dense.checkpoint=" + str(dense / "dense.pt"), "finetune.epochs=0"),
               tmp_path / "next")["machine"]["mixed_precision"] == "no"  # fmt: skip


def test_a_checkpoint_for_other_classes_is_refused(dense: Path, tmp_path: Path):
    recipe = load_recipe(
        "digits", ["model=resnet20", f"dense.checkpoint={dense / 'dense.pt'}", "dense.epochs=0"]
    )
    with pytest.raises(CheckpointError, match=r"dense.pt .*resnet20"):
        run(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()
