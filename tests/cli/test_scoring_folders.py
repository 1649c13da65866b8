"""``gpmt prune`` with scores and compensation on the networks of Hugging Face folders."""

import json
import os
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tests.cli.commands import error, gpmt
from tests.cli.language_models import TEXT, WORDS, save_language_model
from torch import Tensor

import gpmt as package
from gpmt import scores
from gpmt.masks import Masks
from gpmt.training.data import datasets


def sequences(length: int) -> list[dict[str, Tensor]]:
    tokens = torch.tensor([WORDS.index(word) + 2 for word in TEXT.split()][: 3 * length]).view(3, length)
    return [{"input_ids": tokens, "labels": tokens}]


TEXTS = ("--calibrate", "text.txt", "--calibration-samples", 3, "--sequence-length", 20)


@pytest.mark.parametrize("name", ["wanda", "taylor"])
def test_experts_are_scored_as_one_tensor_and_stored_as_many(name: str) -> None:
    transformers = pytest.importorskip("transformers")
    folder = save_language_model(
        Path("net"), "MixtralForCausalLM", num_local_experts=3, num_key_value_heads=1
    )
    Path("text.txt").write_text(TEXT)
    stored = package.load(folder).state_dict
    network = transformers.MixtralForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    network.set_experts_implementation("eager")
    own = getattr(scores, name)(network, sequences(20))
    experts = "model.layers.0.mlp.experts"
    expected = {key: score for key, score in own.items() if not key.startswith(experts)}
    for number in range(3):
        parts = (*own[f"{experts}.gate_up_proj"][number].chunk(2), own[f"{experts}.down_proj"][number])
        for part, score in zip(("w1", "w3", "w2"), parts, strict=True):
            expected[f"model.layers.0.block_sparse_moe.experts.{number}.{part}.weight"] = score

    command = (
        "prune",
        folder,
        "-o",
        "sparse",
        "--min-kept",
        9,
        "--sparsity",
        0.5,
        "--scores",
        name,
        *TEXTS,
        "--masks",
        "masks",
    )
    document = json.loads(gpmt(*command, "--json").stdout)
    assert document["calibration"] == {"data": "text.txt", "samples": 3, "batches": 1}
    masks = package.plan(stored, sparsity=0.5, min_kept=9, scores=expected).masks()
    assert Masks.load("masks") == masks
    written = load_file("sparse/model.safetensors")
    assert all(torch.equal(written[key], stored[key] * masks[key]) for key in masks)
    assert set(os.listdir("sparse")) == set(os.listdir(folder))


def test_language_models_are_compensated() -> None:
    transformers = pytest.importorskip("transformers")
    folder = save_language_model(
        Path("net"), "MixtralForCausalLM", num_local_experts=2, num_key_value_heads=1
    )
    Path("text.txt").write_text(TEXT)
    command = ("prune", folder, "-o", "sparse", "--sparsity", 0.5, *TEXTS, "--compensate", "--masks", "masks")
    document = json.loads(gpmt(*command, "--json").stdout)
    masks = Masks.load("masks")
    assert masks == package.plan(folder, sparsity=0.5).masks()
    written, dense = load_file("sparse/model.safetensors"), package.load(folder).state_dict
    assert Masks.of({name: written[name] for name in masks}) == masks
    assert all(torch.equal(written[name], dense[name]) for name in dense if name not in masks)
    changed = [name for name in masks if not torch.equal(written[name], dense[name] * masks[name])]
    assert any("experts" in name for name in changed)

    def outputs(path: str | Path) -> Tensor:
        network = transformers.MixtralForCausalLM.from_pretrained(path).eval()
        logits: Tensor = network(sequences(20)[0]["input_ids"]).logits
        return logits

    masks.apply_(dense)
    gpmt("prune", folder, "-o", "masked", "--sparsity", 0.5)
    far, near = ((outputs(path) - outputs(folder)).square().sum() for path in ("masked", "sparse"))
    assert near < far
    assert len(document["compensation"]) == 6


def test_weights_of_a_language_model_in_one_file() -> None:
    folder = save_language_model(Path("net"), "GPT2LMHeadModel")
    Path("text.jsonl").write_text(json.dumps({"text": TEXT}))
    Path("elsewhere").mkdir()
    weights_file = Path("elsewhere/w.safetensors")
    (folder / "model.safetensors").rename(weights_file)
    (folder / "w.safetensors").symlink_to(weights_file.resolve())
    command = (
        "prune",
        weights_file,
        "--model",
        f"hf:{folder}",
        "-o",
        "o.safetensors",
        "-s",
        0.5,
        "--masks",
        "masks",
    )
    gpmt(*command, "--scores", "fisher", "--calibrate", "text.jsonl", "--calibration-samples", 2)
    assert Masks.load("masks").sparsity == 0.5


def test_a_tokenizer_is_needed() -> None:
    folder = save_language_model(Path("net"), tokenizer=False)
    Path("text.txt").write_text(TEXT)
    message = error("prune", folder, "-o", "out", "-s", 0.5, "--scores", "wanda", "--calibrate", "text.txt")
    assert message.startswith("net has no tokenizer that can be read")
    assert message.endswith("; copy tokenizer.json and tokenizer_config.json of the network into it")
    assert not Path("out").exists()


def test_a_classifier_of_texts_in_a_folder() -> None:
    transformers = pytest.importorskip("transformers")
    hf = pytest.importorskip("datasets")
    folder = save_language_model(Path("net"), "BertForSequenceClassification", num_labels=2)
    texts = [" ".join(WORDS[place : place + 3]) for place in range(8)]
    columns = hf.Features({"text": hf.Value("string"), "label": hf.ClassLabel(names=["no", "yes"])})
    split = hf.Dataset.from_dict({"text": texts, "label": [0, 1] * 4}, features=columns)
    hf.disable_progress_bars()
    hf.DatasetDict({"train": split, "test": split}).save_to_disk("texts")
    command = ("prune", folder, "-o", "out", "-s", 0.5, "--min-kept", 9, "--masks", "masks")
    texts_of = ("--calibrate", "hf:texts", "--sequence-length", 6, "--batch-size", 4)
    gpmt(*command, "--scores", "taylor", *texts_of)
    network = transformers.BertForSequenceClassification.from_pretrained(
        folder, attn_implementation="eager"
    ).eval()
    source = datasets.load("hf", root=Path("texts"), tokenizer=folder, max_length=6)
    batches = list(source.plain_batches(4, images=128))
    assert len(batches) == 2
    stored = package.load(folder).state_dict
    expected = package.plan(stored, sparsity=0.5, min_kept=9, scores=scores.taylor(network, batches))
    assert Masks.load("masks") == expected.masks()


def test_a_classifier_of_images_in_a_folder() -> None:
    pytest.importorskip("transformers")
    pixels = torch.randint(256, (4, 20, 20, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for number, image in enumerate(pixels):
        for split in ("train", "val"):
            Path(f"images/{split}/{number % 2}").mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.numpy()).save(f"images/{split}/{number % 2}/{number}.jpg")
    folder = save_language_model(
        Path("net"), "ViTForImageClassification", tokenizer=False, image_size=8, patch_size=4, num_labels=2
    )
    command = (
        "prune",
        folder,
        "-o",
        "out",
        "-s",
        0.5,
        "--calibrate",
        "imagefolder:images",
        "--compensate",
        "--json",
    )
    document = json.loads(gpmt(*command).stdout)
    assert document["calibration"] == {"data": "imagefolder:images", "samples": 4, "batches": 1}
    assert all(row["compensated"] <= row["masked"] for row in document["compensation"])
    assert "out/model.safetensors" in map(str, Path("out").iterdir())
