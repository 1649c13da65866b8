import json
from pathlib import Path

import torch
from tests.training.run.runs import FILES, PLAIN_NETWORK, digits_recipe, file_names, short_recipe, weights

from gpmt.formats.checkpoint import load_checkpoint
from gpmt.masks import Masks
from gpmt.training.data import datasets
from gpmt.training.models import build
from gpmt.training.recipes.files import load_recipe
from gpmt.training.run.run import run
from gpmt.verification import verify


def test_a_run_leaves_a_folder_that_explains_itself(digits):
    out, metrics = digits
    assert file_names(out) == FILES
    assert json.loads((out / "metrics.json").read_text()) == metrics
    assert load_recipe(str(out / "recipe.yaml")) == digits_recipe()
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
    masks, tensors = Masks.load(out / "masks.safetensors"), weights(out / "model.pt")
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


def test_an_allocation_that_meets_the_total_only_nearly(small, tmp_path: Path):
    metrics = run(small("allocation=reference", "exclude=conv1.weight", "min_kept=0"), tmp_path / "run")
    assert metrics["verification"]["ok"]
    assert metrics["weights"] == 268_336 - 432 - 4 * 64  # 6 classes, not 10
    assert abs(metrics["sparsity"] - 0.9) < 1e-4
    assert weights(tmp_path / "run/model.pt")["conv1.weight"].all()


def test_columns_are_pruned_and_verified_as_columns(tmp_path: Path):
    recipe = short_recipe(
        PLAIN_NETWORK, "granularity=column", "scope=['1','3']", "sparsity=0.5",
        "min_kept=10",
    )  # fmt: skip
    metrics = run(recipe, tmp_path / "run")
    assert metrics["weights"] == 64 + 16
    assert metrics["kept"] == 40
    assert metrics["verification"]["ok"]
