"""``gpmt sensitivity``: what `gpmt.sensitivity` gives on the data of a data set, its file, and the plan."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.cli import commands
from tests.cli.commands import gpmt, weights
from tests.cli.language_models import TEXT, save_language_model
from tests.cli.tiny_network import make
from torch import nn

import gpmt as package
from gpmt.sensitivities import measure as measuring
from gpmt.sensitivities.result import Sensitivity
from gpmt.training.data import datasets

NETWORK = ("net.pt", "--model", "tests.cli.tiny_network:make", "--input", "1x8x8")
DATA = ("--data", "digits", "--images", 40, "--batch-size", 16)
FEW = ("--sparsities", "50%,0.9")
OUT = ("-o", "found.json")


@pytest.fixture
def network() -> nn.Module:
    made = make().eval()
    torch.save(made.state_dict(), "net.pt")
    return made


def digits() -> list[Any]:
    return list(datasets.load("digits", root=None).plain_batches(16, images=40))


def error(*arguments: Any) -> str:
    return commands.error("sensitivity", *arguments)


def test_what_the_function_gives(network: nn.Module) -> None:
    printed = gpmt("sensitivity", *NETWORK, *DATA, *FEW, *OUT).stdout
    before = Path("net.pt").read_bytes()
    found = Sensitivity.load("found.json")
    expected = package.sensitivity(network, digits(), sparsities=[0.5, 0.9], recalibrate=digits()[:2])
    assert (found.dense, found.curves, found.network) == (expected.dense, expected.curves, expected.network)
    assert found.settings == {
        "data": "digits",
        "number of samples": 40,
        "batch size": 16,
        "sequence length": None,
        "network": NETWORK[2],
    }
    table = [line.split() for line in printed.splitlines()]
    assert table[1] == ["block", "weights", "50%", "90%"]
    for row in expected.table()[1:]:
        assert row in table
    assert f"{expected.summary()}\nwrote found.json\n" in printed
    assert Path("net.pt").read_bytes() == before

    document = json.loads(gpmt("sensitivity", *NETWORK, *OUT, "--resume", "--json").stdout)
    assert document["curves"] == found.to_dict()["curves"]
    assert (document["output"], document["suggestion"], document["plan"]) == ("found.json", None, None)
    printed = gpmt("sensitivity", *NETWORK, *OUT, "--resume", "--metric", "loss").stdout
    assert expected.table("loss")[1] in [line.split() for line in printed.splitlines()]


def test_the_suggested_plan_is_one_that_prune_takes(network: nn.Module) -> None:
    gpmt("sensitivity", *NETWORK, *DATA, "-s", "50%,90%,95%", *OUT, "-q")
    suggested = ("--suggest", 0.9, "--min-kept", 10, "--plan", "plan.json", "--figure", "found.svg")
    printed = gpmt("sensitivity", *NETWORK, *OUT, "--resume", *suggested).stdout
    assert Path("found.svg").read_text().count("6.weight") == 1
    plan = Sensitivity.load("found.json").suggest(network, 0.9, min_kept=10)
    assert f"suggested: {plan.summary()}" in printed
    assert "wrote found.json and plan.json and found.svg" in printed
    gpmt("prune", "net.pt", "-o", "out.pt", "--plan", "plan.json")
    pruned = package.load("out.pt").state_dict
    kept = [int(pruned[row.name].count_nonzero()) for row in plan.blocks]
    assert kept == [row.kept for row in plan.blocks]
    assert sum(kept) == plan.kept == plan.numel - plan.numel * 9 // 10
    assert min(kept) >= 10
    refused = error(*NETWORK, *OUT, "--resume", "--suggest", 0.97, "--plan", "other.json")
    assert refused.startswith("sparsity 0.97 prunes 1,175 of 1,212 weights, but the blocks may lose ")
    assert not Path("other.json").exists()


def test_an_interrupted_measurement_goes_on(network: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    gpmt("sensitivity", *NETWORK, *DATA, *FEW, "-o", "whole.json", "-q")
    told = measuring._cell

    def interrupted(meter: Any, base: Any, row: Any, *others: Any) -> Any:
        if row.name == "3.weight":
            raise KeyboardInterrupt
        return told(meter, base, row, *others)

    with monkeypatch.context() as patch:
        patch.setattr(measuring, "_cell", interrupted)
        stopped = gpmt("sensitivity", *NETWORK, *DATA, *FEW, *OUT, "--resume", code=130)
    assert "1 of 3 blocks are in found.json; go on with --resume\n" in stopped.stderr
    assert len(Sensitivity.load("found.json").curves) == 1
    assert "exists; give another name, --resume to go on with it, or --force" in error(*NETWORK, *DATA, *OUT)
    assert error(*NETWORK, *OUT, "--resume", "--images", 50) == (
        "the number of samples was 40 when it was measured, and is 50 now; go on with the same settings, or measure "
        "all anew"
    )
    assert error(*NETWORK, *OUT, "--resume", "--no-recalibrate").startswith("the recalibration was on when")
    gone_on = gpmt("sensitivity", *NETWORK, *OUT, "--resume", "-v").stderr
    assert "3.weight: 2 of 3 blocks" in gone_on
    assert Path("found.json").read_bytes() == Path("whole.json").read_bytes()
    torch.save({name: 2 * tensor for name, tensor in network.state_dict().items()}, "net.pt")
    assert error(*NETWORK, *OUT, "--resume").startswith("the weights are not those that were measured")


def test_a_text_for_a_language_model() -> None:
    folder = save_language_model(Path("net"))
    Path("text.txt").write_text(TEXT)
    data = ("--data", "text.txt", "--images", 4, "--sequence-length", 20, "--blocks", "*.q_proj", *FEW)
    command = ("sensitivity", folder, *data, "--suggest", 0.01, "--plan", "plan.json")
    document = json.loads(gpmt(*command, "--json").stdout)
    assert document["blocks"] == ["model.layers.0.self_attn.q_proj.weight"]
    assert (document["samples"], document["recalibrated"], document["dense"]["top1"]) == (4, False, None)
    losses = [cell["loss"] for cell in document["curves"][0]["cells"]]
    assert len({document["dense"]["loss"], *losses}) == 3
    gpmt("prune", folder, "-o", "sparse", "--plan", "plan.json")
    assert error(folder, *data, "--metric", "top1").startswith('the metric is "top1", but the data have no')


def test_a_run_knows_its_network(run: str) -> None:
    printed = gpmt("sensitivity", run, *DATA, "-s", "0.9", "--blocks", "stem").stdout
    assert "stem.weight" in printed
    assert "top-1 on 40 samples with one block pruned;" in printed


def test_what_is_asked_for_is_checked_first(network: nn.Module) -> None:
    assert error("net.pt") == (
        "there are no data to measure on; give --data, such as cifar10:FOLDER, or text.txt for a language model"
    )
    assert error("net.pt", "--data", "cifar10") == (
        "--data is cifar10, but its folder is missing; give cifar10:FOLDER"
    )
    assert error("net.pt", *DATA).endswith("which is needed to run it; name it with --model")
    torch.save(weights(), "other.pt")
    assert "resnet20" in error("other.pt", *DATA, "--model", "resnet20")
    assert error("net.pt", *DATA, "--model", "resnet21").startswith("model is resnet21, which is not")
    assert error(*NETWORK, *DATA, "-s", "50%,1.5").startswith("sparsity is 1.5, but must be at least 0")
    assert error(*NETWORK, *DATA, "--resume") == (
        "--resume goes on with the file of -o, which is missing; give -o FILE"
    )
    assert error(*NETWORK, *DATA, "--plan", "p.json").startswith("--plan belongs to --suggest; give it too")
    assert error(*NETWORK, *DATA, "--min-kept", 3).startswith("--min-kept belongs to --suggest; give it too")
    assert error(*NETWORK, *DATA, *OUT, "--suggest", 0.9, "--plan", "found.json") == (
        "found.json is named twice, or is the input; give each output a name of its own"
    )
    assert error(*NETWORK, *DATA, "-o", "net.pt", "--force").startswith(
        "net.pt is named twice, or is the input"
    )
    assert error(*NETWORK, *DATA, "--figure", "f.jpg").endswith("let its name end in .svg, .pdf or .png")
    assert "close names" in error(*NETWORK, *DATA, "--blocks", "3.weigth")
    assert not Path("found.json").exists()
    Path("found.json").write_text("{}")
    assert error(*NETWORK, *OUT, "--resume").startswith("found.json: it is not a sensitivity; write one")


def test_a_loss_that_is_not_finite_is_refused(network: nn.Module) -> None:
    state = network.state_dict()
    state["6.bias"][0] = torch.nan
    torch.save(state, "net.pt")
    assert error(*NETWORK, *DATA, *FEW, *OUT).startswith(
        "the loss of batch 1 is nan; look for NaN in the data"
    )
    assert not Path("found.json").exists()
