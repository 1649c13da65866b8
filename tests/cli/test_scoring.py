"""``gpmt prune`` with scores, compensation and a budget in MACs: what the functions of Python give."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.cli.commands import error, gpmt, weights
from tests.cli.language_models import TEXT
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
