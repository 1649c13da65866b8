"""Commands told which network a file belongs to, for its layers and MACs."""

import json
import sys

import pytest
import torch
from tests.cli.commands import error, gpmt

from gpmt.training.models import build


@pytest.fixture
def resnet20() -> str:
    model = build("resnet20", num_classes=7, input_shape=(3, 32, 32))
    torch.save({"state_dict": model.state_dict()}, "resnet20.pt")
    return "resnet20.pt"


def test_macs_of_a_network_by_name(resnet20: str) -> None:
    network = ("--model", "resnet20", "--input", "3x32x32")
    document = json.loads(gpmt("inspect", resnet20, *network, "--json").stdout)
    assert document["dense_macs"]["conv1.weight"] == 32 * 32 * 16 * 27
    assert document["dense_macs"]["linear.weight"] == 64 * 7
    assert sum(document["dense_macs"].values()) == 40_550_400 + 64 * 7
    printed = gpmt(
        "prune", resnet20, "-o", "out.pt", "--sparsity", "0.9", "--scope", "type:Linear", *network
    ).stdout
    assert "linear.weight" in printed
    assert "\n conv1.weight" not in printed  # no line of the table
    assert "MACs" in printed


def test_known_networks_need_no_input(resnet20: str) -> None:
    documents = [
        json.loads(gpmt("inspect", resnet20, "--model", "resnet20", *given, "--json").stdout)
        for given in ((), ("--input", "3x32x32"))
    ]
    assert documents[0]["dense_macs"] == documents[1]["dense_macs"]


def test_an_unknown_network_is_told_before_a_missing_shape(resnet20: str) -> None:
    message = error("inspect", resnet20, "--model", "resnet21")
    assert message.startswith("model is resnet21, which is not known; did you mean resnet")
    assert error("inspect", resnet20, "--model", "densenet").startswith(
        "model is densenet, which is not known; known are cifar-mobilenetv2, "
    )


def test_a_file_of_gpmt_run_names_its_network(resnet20: str) -> None:
    held = torch.load(resnet20)
    held["gpmt"] = {"model": {"name": "resnet20", "num_classes": 7}, "input_shape": [3, 32, 32]}
    torch.save(held, "run.pt")
    gpmt("prune", "run.pt", "-o", "pruned.pt", "--sparsity", "0.9")
    document = json.loads(gpmt("inspect", "pruned.pt", "--json").stdout)
    assert document["dense_macs"]["linear.weight"] == 64 * 7
    assert {row["kind"] for row in document["tensors"]} == {"Conv2d", "Linear"}
    assert "MACs without the zeros" in gpmt("inspect", "pruned.pt").stdout


def test_a_missing_extra_is_named(dense: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("torchvision", "torchvision.models"):
        monkeypatch.setitem(sys.modules, module, None)
    message = error("inspect", dense, "--model", "torchvision:resnet18", "--input", "3x224x224")
    assert message == (
        "torchvision is not installed; pip install torchvision brings it, pip install '.[train]' in gpmt's folder "
        "all of train"
    )


def test_a_network_with_another_shape_of_layers_is_named(resnet20: str) -> None:
    state = torch.load(resnet20)["state_dict"]
    state["layer1.0.conv1.weight"] = torch.ones(16, 16, 5, 5)
    torch.save(state, "odd.pt")
    assert (
        "odd.pt does not fit resnet20: tensors 1 of another shape "
        "(layer1.0.conv1.weight is [16, 16, 5, 5], not [16, 16, 3, 3]); name the network it belongs to"
    ) in error("inspect", "odd.pt", "--model", "resnet20", "--input", "3x32x32")
