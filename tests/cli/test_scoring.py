"""``gpmt prune`` with scores, compensation and a budget in MACs: what the functions of Python give."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tests.cli.commands import error, gpmt, weights
from tests.cli.language_models import TEXT, WORDS, save_language_model
from tests.cli.tiny_network import SHAPE, make
from torch import Tensor, nn

import gpmt as package
from gpmt import scores
from gpmt.macs import count_macs
from gpmt.masks import Masks
from gpmt.training.data import datasets
from gpmt.training.models import construct

MODEL = "tests.cli.tiny_network:make"
COMMAND = (
    "prune",
    "net.pt",
    "--model",
    MODEL,
    "--input",
    "1x8x8",
    "-o",
    "out.pt",
    "--masks",
    "masks",
    "--json",
    "--force",
)
SAMPLES = ("--calibrate", "digits", "--calibration-samples", 24, "--batch-size", 16)
BATCHES = [16, 8]


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    made = make().eval()
    torch.save(made.state_dict(), "net.pt")
    return made


def digits() -> list[Any]:
    return list(datasets.load("digits", root=None).plain_batches(16, images=24))


def prune(*arguments: Any) -> tuple[dict[str, Any], Masks]:
    document: dict[str, Any] = json.loads(gpmt(*COMMAND, *arguments).stdout)
    return document, Masks.load("masks")


@pytest.mark.parametrize("name", ["fisher", "ria", "snip", "taylor", "wanda"])
def test_scores_that_need_data(name: str, network: nn.Module) -> None:
    document, masks = prune("--sparsity", 0.7, "--min-kept", 5, "--scores", name, *SAMPLES)
    score: Callable[..., dict[str, Tensor]] = getattr(scores, name)
    assert masks == package.plan(network, sparsity=0.7, min_kept=5, scores=score(network, digits())).masks()
    assert masks != package.plan(network, sparsity=0.7, min_kept=5).masks()
    assert document["scores"] == name
    assert document["calibration"] == {"data": "digits", "samples": 24, "batches": 2}
    assert (document["compensation"], document["recalibrated"]) == (None, None)


def test_scores_that_need_no_data(network: nn.Module) -> None:
    expected: dict[str, Any] = {
        "magnitude": None,
        "random": scores.random(network, seed=3),
        "synflow": scores.synflow(network, SHAPE),
    }
    for name, score in expected.items():
        document, masks = prune("--sparsity", 0.5, "--min-kept", 5, "--scores", name, "--seed", 3)
        assert masks == package.plan(network, sparsity=0.5, min_kept=5, scores=score).masks()
        assert document["calibration"] is None


def test_scores_from_a_file(network: nn.Module) -> None:
    given = scores.random(network, seed=5)
    scores.save("scores.safetensors", given)
    document, masks = prune("--sparsity", 0.5, "--scores", "scores.safetensors")
    assert masks == package.plan(network, sparsity=0.5, scores=given).masks()
    assert document["scores"] == "scores.safetensors"
    state = weights()
    torch.save(state, "plain.pt")
    given = {name: torch.rand_like(state[name]) for name in ("conv.weight", "fc.weight")}
    scores.save("scores.safetensors", given)
    gpmt("prune", "plain.pt", "-o", "o.pt", "-s", 0.5, "--scores", "scores.safetensors", "--masks", "m")
    assert Masks.load("m") == package.plan(state, sparsity=0.5, scores=given).masks()


def test_budget_in_macs(network: nn.Module) -> None:
    macs = count_macs(network, SHAPE)
    document, masks = prune("--max-macs", "25%")
    assert masks == package.plan(network, max_macs="25%", macs=macs).masks()
    assert document["macs"]["kept"] <= document["macs"]["budget"] == document["macs"]["dense"] // 4
    _, masks = prune("--max-macs", "100000", "--sparsity", 0.5, "--scores", "wanda", *SAMPLES)
    expected = package.plan(
        network, sparsity=0.5, max_macs=100_000, macs=macs, scores=scores.wanda(network, digits())
    )
    assert masks == expected.masks()
    printed = gpmt(*COMMAND[:-2], "--force", "--max-macs", "25%").stdout
    assert f"MACs of at most {document['macs']['budget']:,}" in " ".join(printed.split())


def test_compensation_and_recalibration(network: nn.Module) -> None:
    document, masks = prune("--sparsity", 0.6, *SAMPLES, "--compensate", "--recalibrate")
    assert masks == package.plan(network, sparsity=0.6).masks()
    done = package.compensate(network, masks, digits())
    assert document["recalibrated"] == package.recalibrate(network, digits()) > 0
    written = package.load("out.pt").state_dict
    assert list(written) == list(network.state_dict())
    assert all(torch.equal(written[name], tensor) for name, tensor in network.state_dict().items())
    assert Masks.of(written) == masks
    assert [row["name"] for row in document["compensation"]] == [layer.name for layer in done.layers]
    assert all(row["compensated"] <= row["masked"] for row in document["compensation"])
    printed = gpmt(
        *COMMAND[:-2], "--force", "--sparsity", 0.6, *SAMPLES, "--compensate", "--recalibrate"
    ).stdout
    layers = done.layers
    masked, left = (
        sum(getattr(layer, name) for layer in layers) / len(layers) for name in ("masked", "compensated")
    )
    assert f"the squared error of the outputs is {left:.3%} in place of {masked:.3%}" in printed
    assert f"recalibrated {document['recalibrated']} layers of batch normalisation" in printed


def test_gpmt_plan_ranks_in_the_same_way(network: nn.Module) -> None:
    command = ("plan", "net.pt", "--model", MODEL, "--input", "1x8x8", "--scores", "wanda", *SAMPLES)
    document = json.loads(gpmt(*command, "--max-macs", "40%", "--json").stdout)
    expected = package.plan(
        network, max_macs="40%", macs=count_macs(network, SHAPE), scores=scores.wanda(network, digits())
    )
    assert [row["kept"] for row in document["tensors"]] == [row.kept for row in expected.tensors]
    assert document["macs"] == expected.macs.to_dict() if expected.macs else False
    assert (document["scores"], document["calibration"]["samples"]) == ("wanda", 24)
    assert error(*command, "-s", 0.5, "-o", "plan.json") == (
        "a plan that --scores ranks cannot be written, since its counts say nothing without them; leave out -o, or "
        "prune with gpmt prune --scores"
    )
    assert error(*command) == (
        "give --sparsity, such as 0.9, --pattern or --max-macs, or --what-if for several"
    )
    document = json.loads(gpmt(*command, "--what-if", "-s", 0.5, "--json").stdout)
    [row] = package.what_if(network, [0.5], macs=SHAPE, scores=scores.wanda(network, digits())).rows
    assert document["rows"] == [row.to_dict()]
    assert document["scores"] == "wanda"


def test_a_plan_with_compensation(network: nn.Module) -> None:
    gpmt("plan", "net.pt", "-s", 0.6, "-o", "plan.json")
    command = ("prune", "net.pt", "--plan", "plan.json", "--model", MODEL, "--input", "1x8x8", "-o", "out.pt")
    gpmt(*command, *SAMPLES, "--compensate")
    masks = package.plan(network, sparsity=0.6).masks()
    package.compensate(network, masks, digits())
    written = package.load("out.pt").state_dict
    assert all(torch.equal(written[name], tensor) for name, tensor in network.state_dict().items())
    message = "--plan says all that --max-macs, --scores would; leave them out, or the plan"
    assert error(*command, "--force", "--max-macs", "9%", "--scores", "random") == message


def test_a_dry_run_scores_and_does_not_compensate(network: nn.Module) -> None:
    command = ("--sparsity", 0.6, "--scores", "ria", *SAMPLES, "--compensate", "--dry-run")
    document = json.loads(gpmt(*COMMAND, *command).stdout)
    expected = package.plan(network, sparsity=0.6, scores=scores.ria(network, digits()))
    assert [row["kept"] for row in document["tensors"]] == [row.kept for row in expected.tensors]
    assert (document["scores"], document["calibration"]["batches"]) == ("ria", 2)
    assert sorted(os.listdir()) == ["net.pt"]


def test_recalibration_alone(network: nn.Module) -> None:
    prune("--sparsity", 0.6, *SAMPLES, "--recalibrate")
    package.prune_(network, sparsity=0.6)
    package.recalibrate(network, digits())
    written = package.load("out.pt").state_dict
    assert all(torch.equal(written[name], tensor) for name, tensor in network.state_dict().items())


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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--scores", "wandas"],
            "--scores is wandas, which is neither a score nor a file; did you mean wanda?",
        ),
        (
            ["--scores", "wanda"],
            "--scores wanda needs data; give --calibrate, such as cifar10:FOLDER, or text.txt for a language model",
        ),
        (["--compensate"], "--compensate needs data; give --calibrate, such as"),
        (["--recalibrate"], "--recalibrate needs data; give --calibrate, such as"),
        (
            ["--calibrate", "digits"],
            "--calibrate is digits, but nothing needs data; leave it out, or give --scores with one of fisher, ria, "
            "snip, taylor, wanda, --compensate or --recalibrate",
        ),
        (["--scores", "synflow", "--calibrate", "digits"], "--calibrate is digits, but nothing needs data"),
        (["--scores", "wanda", "--calibrate", "cifar10"], "its folder is missing; give cifar10:FOLDER"),
        (["--scores", "wanda", "--calibrate", "cifar10:gone"], "but gone is not a folder; check the path"),
        (
            ["--scores", "wanda", "--calibrate", "text.txt"],
            "--calibrate is text.txt, a text, but Sequential takes none; give a data set such as cifar10:FOLDER",
        ),
        (["--scores", "net.pt"], "net.pt is not a readable safetensors file"),
        (
            ["--scores", "wanda", "--allocation", "lamp", *SAMPLES],
            "scores rank single weights, so they have no",
        ),
        (["--scores", "wanda", "--min-kept", "99999", *SAMPLES], "the minimum of 99,999 in each of"),
        (["--max-macs", "11%", "--allocation", "uniform"], "it cannot be combined with allocation 'uniform'"),
        (["--max-macs", "lots"], "max_macs is 'lots', but must be a whole number of MACs, or a share"),
    ],
)
@pytest.mark.usefixtures("network")
def test_bad_requests_write_nothing(arguments: list[Any], message: str) -> None:
    Path("text.txt").write_text(TEXT)
    before = sorted(os.listdir())
    assert message in error(*COMMAND[:-2], "--sparsity", 0.5, *arguments)
    assert sorted(os.listdir()) == before


def test_a_network_has_to_be_known(dense: str) -> None:
    command = ("prune", dense, "-o", "out.pt")
    message = (
        f"{dense} does not say which network it belongs to, which is needed to run it; name it with --model"
    )
    assert error(*command, "-s", 0.5, "--scores", "wanda", "--calibrate", "digits") == message
    assert error(*command, "-s", 0.5, "--scores", "synflow") == message
    assert not Path("out.pt").exists()


def test_data_of_another_shape() -> None:
    torch.save(construct("lenet5-caffe", num_classes=10, input_shape=(1, 28, 28)).state_dict(), "lenet.pt")
    command = ("prune", "lenet.pt", "--model", "lenet5-caffe", "-o", "out.pt", "-s", 0.5, "--scores", "wanda")
    assert "the network does not run on batch 1, float32 [64, 1, 8, 8]" in error(
        *command, "--calibrate", "digits"
    )


def test_data_of_more_classes() -> None:
    torch.save(make(5).state_dict(), "net.pt")
    message = error(*COMMAND[:-2], "-s", 0.5, "--scores", "taylor", *SAMPLES)
    assert message.startswith("the loss of batch 1 fails (Target ")
    assert message.endswith("out of bounds.); give targets that fit the network's output")


def test_a_tokenizer_is_needed() -> None:
    folder = save_language_model(Path("net"), tokenizer=False)
    Path("text.txt").write_text(TEXT)
    message = error("prune", folder, "-o", "out", "-s", 0.5, "--scores", "wanda", "--calibrate", "text.txt")
    assert message.startswith("net has no tokenizer that can be read")
    assert message.endswith("; copy tokenizer.json and tokenizer_config.json of the network into it")
    assert not Path("out").exists()


def test_the_folder_of_a_run_names_its_network(run: str) -> None:
    gpmt(
        "prune",
        run,
        "-o",
        "out.pt",
        "-s",
        0.9,
        "--min-kept",
        9,
        "--scores",
        "wanda",
        *SAMPLES,
        "--masks",
        "masks",
    )
    network = construct("mobilenet-digits", num_classes=10, input_shape=SHAPE)
    network.load_state_dict(package.load(f"{run}/model.pt").state_dict)
    expected = package.plan(network, sparsity=0.9, min_kept=9, scores=scores.wanda(network, digits()))
    assert Masks.load("masks") == expected.masks()


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
