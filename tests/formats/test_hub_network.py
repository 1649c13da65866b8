import json
import socket
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gpmt.core.scope.scope import find_scope
from gpmt.errors import CheckpointError
from gpmt.formats.hub_network import build_network, describe, misfit, names_in
from gpmt.formats.load import load
from gpmt.prune import plan

transformers = pytest.importorskip("transformers", reason="gpmt[hf] is not installed")

BERT = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "vocab_size": 30,
}


def bert(kind: str = "BertForMaskedLM") -> Any:
    return getattr(transformers, kind)(transformers.BertConfig(**BERT))


def mixtral() -> Any:
    """A network whose experts are one tensor each, and stored as many."""
    settings = transformers.MixtralConfig(
        vocab_size=30,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        num_local_experts=3,
    )
    return transformers.MixtralForCausalLM(settings)


def config(folder: Path, **changes: Any) -> dict[str, Any]:
    path = folder / "config.json"
    document: dict[str, Any] = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in document.items() if value is not None}))
    return document


def test_the_class_that_the_config_names_without_data(tmp_path: Path) -> None:
    bert().save_pretrained(tmp_path)
    network = build_network(tmp_path)
    assert type(network) is transformers.BertForMaskedLM
    assert not network.training
    assert {parameter.device.type for parameter in network.parameters()} == {"meta"}
    assert network.cls.predictions.decoder.weight is network.bert.embeddings.word_embeddings.weight


@pytest.mark.parametrize("kind", ["BertModel", "BertForMaskedLM"])
def test_names_with_and_without_the_prefix(tmp_path: Path, kind: str) -> None:
    with torch.device("meta"):
        network = bert(kind)
    body = {name: tensor for name, tensor in bert("BertModel").state_dict().items() if "pooler" not in name}
    for prefix in ("", "bert."):
        given = {prefix + name: tensor for name, tensor in body.items()}
        wanted = {prefix + name: ("bert." if kind != "BertModel" else "") + name for name in body}
        assert names_in(network, given) == wanted
        found = describe(tmp_path, given)
        assert list(found) == list(given)


def test_a_tensor_of_another_shape_is_not_in_the_network() -> None:
    with torch.device("meta"):
        network = bert()
    state: dict[str, Tensor] = dict(bert().state_dict())
    name = "bert.encoder.layer.0.output.dense.weight"
    state[name] = torch.zeros(3, 3)
    assert set(state) - set(names_in(network, state)) == {name}
    assert misfit(network, state) == (
        f"tensors 1 missing ({name}), 1 unexpected or of another shape ({name})"
    )


def test_experts_that_are_stored_one_by_one(tmp_path: Path) -> None:
    mixtral().save_pretrained(tmp_path)
    state = load(tmp_path).state_dict
    network = build_network(tmp_path)
    assert misfit(network, state) is None
    if any(".experts.0." in name for name in state):
        single = next(name for name in state if ".experts.0." in name)
        assert names_in(network, state)[single] in network.state_dict()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architectures": None}, r"config\.json names no class of transformers under architectures$"),
        ({"architectures": [3]}, "names no class of transformers under architectures"),
        ({"architectures": ["NoSuchModel"]}, "names NoSuchModel, which transformers does not have$"),
        ({"architectures": ["pipeline"]}, "names pipeline, which transformers does not have$"),
        ({"model_type": "none-such"}, r"transformers cannot build BertForMaskedLM from .*config\.json \("),
        (
            {"model_type": "mine", "auto_map": {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}},
            "transformers cannot build",
        ),
        ({"hidden_act": "none-such"}, r"transformers cannot build BertForMaskedLM from .*\('none-such'\)$"),
        ({"num_attention_heads": 0}, "transformers cannot build"),
        ({"num_hidden_layers": 10**9}, "says that num_hidden_layers is 1000000000, which no network has$"),
        ({"inner": {"depths": [2, 10**9]}}, "says that depths is 1000000000, which no network has$"),
    ],
)
def test_configs_that_give_no_network(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    bert().save_pretrained(tmp_path)
    state = load(tmp_path).state_dict
    config(tmp_path, **changes)
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    begin = time.monotonic()
    with pytest.raises(CheckpointError, match=message) as refused:
        build_network(tmp_path)
    assert "\n" not in str(refused.value)
    assert time.monotonic() - begin < 60
    assert not (tmp_path / "ran").exists()
    judged = find_scope(load(tmp_path).state_dict).judged
    assert (judged.by, judged.why) == ("names", str(refused.value))
    assert list(find_scope(dict(state)).tensors)


def test_no_config_and_no_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        CheckpointError, match=r"^there is no config\.json in .*, which would say what network it is$"
    ):
        build_network(tmp_path)
    bert().save_pretrained(tmp_path)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(CheckpointError, match=r"^transformers is not installed"):
        build_network(tmp_path)
    judged = find_scope(load(tmp_path).state_dict).judged
    assert judged.by == "names"
    assert judged.why.startswith("transformers ")


def test_nothing_is_looked_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the internet was asked")

    bert().save_pretrained(tmp_path)
    config(
        tmp_path, _name_or_path="google-bert/bert-base-uncased", attn_implementation="kernels-community/none"
    )
    capfd.readouterr()
    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert find_scope(load(tmp_path).state_dict).judged.by == "layers"
    assert capfd.readouterr() == ("", "")


def test_weights_of_another_network_than_the_config_says(tmp_path: Path) -> None:
    bert().save_pretrained(tmp_path)
    torch.save({f"{i}.weight": torch.ones(2, 2) for i in range(3)}, tmp_path / "other.pt")
    judged = find_scope(load(tmp_path / "other.pt").state_dict).judged
    assert judged.why == "these are not the weights of BertForMaskedLM, which config.json names"
    torch.save(bert().state_dict(), tmp_path / "same.pt")
    assert find_scope(load(tmp_path / "same.pt").state_dict).judged.network == "BertForMaskedLM"


def test_masks_alone_leave_the_network_known(tmp_path: Path) -> None:
    bert().save_pretrained(tmp_path)
    state = load(tmp_path).state_dict
    masks = plan(state, sparsity=0.5).masks()
    masks.save(tmp_path / "masks.safetensors")
    loaded = load(tmp_path / "masks.safetensors", weights=tmp_path)
    found = find_scope(loaded.state_dict)
    assert found.judged.network == "BertForMaskedLM"
    assert sum(int((tensor == 0).sum()) for tensor in found.tensors.values()) == masks.total_pruned
