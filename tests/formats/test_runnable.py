import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.cli.language_models import save_language_model
from torch import Tensor, nn

import gpmt
from gpmt.core.scope.scope import find_scope
from gpmt.errors import CheckpointError
from gpmt.formats.hub_network import load_network, quiet_transformers
from gpmt.formats.runnable import Runnable
from gpmt.scores import magnitude

KINDS: dict[str, dict[str, Any]] = {
    "LlamaForCausalLM": {},
    "GPT2LMHeadModel": {},
    "MixtralForCausalLM": {"num_local_experts": 3, "num_key_value_heads": 1},
}
"""Tensors stored as they are; tied to one another; experts that are one tensor each, and stored as many."""


def opened(folder: Path, kind: str) -> tuple[dict[str, Tensor], Runnable]:
    save_language_model(folder, kind, tokenizer=False, **KINDS[kind])
    stored = gpmt.load(folder).state_dict
    return stored, Runnable.of_folder(folder, stored)


@pytest.mark.parametrize("kind", KINDS)
def test_there_and_back(kind: str, tmp_path: Path) -> None:
    stored, runnable = opened(tmp_path, kind)
    transformers = pytest.importorskip("transformers")
    reference = getattr(transformers, kind).from_pretrained(tmp_path)
    tokens = torch.arange(12).view(2, 6)
    torch.testing.assert_close(runnable.network(tokens).logits, reference.eval()(tokens).logits)

    weights = find_scope(stored).tensors
    found = runnable.to_stored(magnitude(runnable.network, scope=runnable.own_names(weights)), weights)
    assert list(found) == list(weights)
    assert all(torch.equal(found[name], weight.abs()) for name, weight in weights.items())

    masks = gpmt.plan(stored, sparsity=0.6).masks()
    own = runnable.own_masks(masks)
    assert sum(int(mask.sum()) for mask in own.values()) == masks.total_kept
    gpmt.Masks.from_dense(own).apply_(runnable.network)
    for parameter in runnable.network.parameters():
        parameter.data.mul_(2)
    expected = {
        name: 2 * weight * masks[name]
        for name, weight in gpmt.load(tmp_path).state_dict.items()
        if name in masks
    }
    runnable.write_back(masks)
    assert all(torch.equal(stored[name], weight) for name, weight in expected.items())


def test_the_dtype_of_the_file_not_of_the_config(tmp_path: Path) -> None:
    stored, _ = opened(tmp_path, "LlamaForCausalLM")
    half = {name: tensor.to(torch.float16) for name, tensor in stored.items()}
    network = load_network(tmp_path, half)
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float16}
    wide = half | {"model.norm.weight": stored["model.norm.weight"]}
    runnable = Runnable.of_folder(tmp_path, wide)
    assert runnable.own_names(["model.norm.weight"]) == ["model.norm.weight"]


def test_weights_of_another_network(tmp_path: Path) -> None:
    stored, _ = opened(tmp_path, "LlamaForCausalLM")
    del stored["model.norm.weight"]
    with pytest.raises(
        CheckpointError, match=r"the weights do not fit LlamaForCausalLM of .*: tensors 1 missing"
    ):
        load_network(tmp_path, stored)


def test_what_cannot_be_followed_back(tmp_path: Path) -> None:
    stored, runnable = opened(tmp_path, "MixtralForCausalLM")
    with pytest.raises(
        CheckpointError, match="other is not a tensor of MixtralForCausalLM, so it cannot be scored"
    ):
        runnable.own_names(["other"])
    name = next(name for name in stored if name.endswith("experts.1.w1.weight"))
    stored[name] = stored[name].flip(0)
    with pytest.raises(
        CheckpointError, match=r"experts.1.w1.weight is changed when MixtralForCausalLM is loaded \(to"
    ):
        runnable.own_masks({name: torch.ones_like(stored[name], dtype=torch.bool)})


def test_a_network_whose_tensors_are_those_of_the_file() -> None:
    network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    stored = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    runnable = Runnable(network, stored)
    assert runnable.own_names(["0.weight"]) == ["0.weight"]
    network[1].running_mean.fill_(3.0)
    runnable.write_back_buffers()
    assert stored["1.running_mean"].tolist() == [3.0, 3.0]


def test_nothing_is_looked_up_or_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the internet was asked")

    stored, _ = opened(tmp_path, "LlamaForCausalLM")
    capfd.readouterr()
    monkeypatch.setattr(socket.socket, "connect", refuse)
    network = load_network(tmp_path, stored)
    tokens = torch.arange(8).view(1, 8)
    with quiet_transformers():
        assert network(tokens, labels=tokens).loss.isfinite()
    assert capfd.readouterr() == ("", "")
