import json
from pathlib import Path

import pytest
import torch
from tests.cli.commands import error, gpmt
from torch import Tensor

from gpmt.masks import Masks
from gpmt.training.models import construct

FIRST, SECOND = "conv1.weight", "conv2.weight"
NETWORK = "--model", "lenet5-caffe"


@pytest.fixture
def lenet() -> dict[str, Tensor]:
    """Weights of a small network with a dead filter in its first layer."""
    torch.manual_seed(0)
    state = construct("lenet5-caffe", num_classes=10, input_shape=(1, 28, 28)).state_dict()
    state[FIRST][0] = 0
    torch.save(state, "lenet.pt")
    return state


def paths(*arguments: object) -> str:
    printed = gpmt("verify", *arguments).stdout
    return next(line.strip() for line in printed.splitlines() if " paths: " in line)


def test_a_network_by_name(lenet: dict[str, Tensor]) -> None:
    cut = lenet[SECOND][:, 0].numel()
    start = f"warning  paths: 1 of 20 outputs of {FIRST} are dead; {cut:,} kept weights"
    assert paths("lenet.pt", *NETWORK).startswith(start)
    document = json.loads(gpmt("verify", "lenet.pt", *NETWORK, "--json").stdout)
    assert document["paths"]["dead_outputs"] == 1
    assert document["paths"]["kept"] - document["paths"]["active"] == cut
    assert [row["name"] for row in document["paths"]["tensors"]] == [
        row["name"] for row in document["tensors"]
    ]


def test_masks_and_scope(lenet: dict[str, Tensor]) -> None:
    Masks.from_dense({FIRST: lenet[FIRST] != 0}).save("masks.safetensors")
    line = paths("lenet.pt", "--masks", "masks.safetensors", *NETWORK)
    assert line == paths("lenet.pt", "--scope", FIRST, *NETWORK)
    assert f"1 of 20 outputs of {FIRST} are dead; each of 475 kept weights is on a path" in line


def test_without_a_network_nothing_is_followed(lenet: dict[str, Tensor]) -> None:
    assert "paths" not in gpmt("verify", "lenet.pt").stdout
    assert json.loads(gpmt("verify", "lenet.pt", "--json").stdout)["paths"] is None
    assert error("verify", "lenet.pt", "--paths") == (
        "lenet.pt does not say which network it belongs to; name it with --model, and --input"
    )
    assert error("verify", "lenet.pt", "--input", "1x28x28") == (
        "--input is 1x28x28, but no network is known; name it with --model"
    )


def test_a_folder_of_transformers() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.MixtralConfig(
        vocab_size=30,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        num_local_experts=3,
    )
    network = transformers.MixtralForCausalLM(config)
    with torch.no_grad():
        network.model.layers[0].mlp.experts.down_proj[1, 2] = 0
    network.save_pretrained("mixtral")
    line = paths("mixtral", "--paths")
    assert line.startswith(
        "warning  paths: 1 of 48 outputs of model.layers.0.mlp.experts.down_proj are dead; each of"
    )
    assert "taken to link all with all: index" in line
    Path("other").mkdir()
    Path("other/config.json").write_text(Path("mixtral/config.json").read_text())
    message = error("verify", "mixtral", "--model", "hf:other")
    assert message.startswith(
        "--model is hf:other, but paths are followed through the weights of its own folder; give"
    )
