"""What the modules of a network tell of its tensors: output heads and routers."""

from typing import Any

import pytest
import torch
from torch import nn

from gpmt.core.scope.scope import find_scope

SMALL = {
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GROUPED = SMALL | {"num_key_value_heads": 2, "head_dim": 4}
T5 = {"vocab_size": 40, "d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 2, "num_heads": 4}
BART = {
    "vocab_size": 40,
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_ffn_dim": 8,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
}


def outside(kind: str, config: str, settings: dict[str, Any]) -> dict[str, str]:
    """Return the reasons for what is outside the scope of a network of transformers."""
    transformers = pytest.importorskip("transformers")
    with torch.device("meta"):
        network = getattr(transformers, kind)(getattr(transformers, config)(**settings))
    by_names = find_scope(network.state_dict())
    found = find_scope(network)
    assert set(found.tensors) == set(by_names.tensors)
    return {row.name: row.reason for row in found.outside}


@pytest.mark.parametrize(
    ("kind", "config", "settings", "head"),
    [
        ("LlamaForCausalLM", "LlamaConfig", GROUPED, "lm_head.weight"),
        ("GPTNeoXForCausalLM", "GPTNeoXConfig", SMALL, "lm_head.weight"),
        ("BertForMaskedLM", "BertConfig", SMALL, "cls.predictions.decoder.weight"),
        ("RobertaForMaskedLM", "RobertaConfig", SMALL, "lm_head.decoder.weight"),
        (
            "WhisperForConditionalGeneration",
            "WhisperConfig",
            BART | {"pad_token_id": 0, "decoder_start_token_id": 1, "eos_token_id": 2, "bos_token_id": 1},
            "proj_out.weight",
        ),
    ],
)
def test_an_untied_head_is_out_and_a_tied_one_is_an_embedding(
    kind: str, config: str, settings: dict[str, Any], head: str
) -> None:
    untied = outside(kind, config, settings | {"tie_word_embeddings": False})
    assert untied[head] == "output head"
    tied = outside(kind, config, settings | {"tie_word_embeddings": True})
    assert "output head" not in tied.values()
    assert head not in tied or tied[head] == "tied to an embedding"


@pytest.mark.parametrize("kind", ["ViTForImageClassification", "BertForSequenceClassification"])
def test_a_classifier_is_a_layer(kind: str) -> None:
    transformers = pytest.importorskip("transformers")
    config = f"{kind[:3] if kind.startswith('ViT') else 'Bert'}Config"
    with torch.device("meta"):
        network = getattr(transformers, kind)(getattr(transformers, config)(**SMALL))
    assert "classifier.weight" in find_scope(network).tensors


def test_the_head_of_a_network_of_the_users() -> None:
    net = nn.ModuleDict(
        {"wte": nn.Embedding(9, 4), "fc": nn.Linear(4, 4), "lm_head": nn.Linear(4, 9, bias=False)}
    )
    assert list(find_scope(net).tensors) == ["fc.weight"]
    assert list(find_scope(net, scope="lm_head").tensors) == ["lm_head.weight"]
    net["lm_head"].weight = net["wte"].weight
    assert find_scope(net).coverage.total == 9 * 4 + 4 * 4


def test_a_head_is_the_last_layer_also_where_it_is_out() -> None:
    net = nn.ModuleDict({"fc": nn.Linear(4, 4), "fc2": nn.Linear(4, 4), "lm_head": nn.Linear(4, 9)})
    assert find_scope(net).ends == {"fc.weight": "first"}
    assert find_scope(net, scope=["*", "lm_head"]).ends == {"fc.weight": "first", "lm_head.weight": "last"}


ROUTERS = [
    ("MixtralModel", "MixtralConfig", GROUPED, "mlp.gate.weight"),
    (
        "Qwen2MoeModel",
        "Qwen2MoeConfig",
        GROUPED | {"num_experts": 4, "moe_intermediate_size": 8},
        "mlp.gate.weight",
    ),
    ("GptOssModel", "GptOssConfig", GROUPED | {"num_local_experts": 4}, "mlp.router.weight"),
    ("Llama4TextModel", "Llama4TextConfig", GROUPED | {"num_local_experts": 4}, "feed_forward.router.weight"),
    ("PhimoeModel", "PhimoeConfig", GROUPED | {"num_local_experts": 4}, "mlp.router.weight"),
    ("OlmoeModel", "OlmoeConfig", GROUPED | {"num_experts": 4}, "mlp.gate.weight"),
    (
        "GraniteMoeModel",
        "GraniteMoeConfig",
        GROUPED | {"num_local_experts": 4},
        "block_sparse_moe.router.",
    ),
    (
        "JetMoeModel",
        "JetMoeConfig",
        SMALL | {"num_key_value_heads": 2, "kv_channels": 8},
        "mlp.router.layer.weight",
    ),
    (
        "HunYuanMoEV1Model",
        "HunYuanMoEV1Config",
        GROUPED | {"num_experts": 4, "moe_topk": 2},
        "mlp.gate.wg.weight",
    ),
    (
        "SwitchTransformersModel",
        "SwitchTransformersConfig",
        T5 | {"num_decoder_layers": 2, "num_experts": 4, "num_sparse_encoder_layers": 2},
        "mlp.router.classifier.weight",
    ),
]


@pytest.mark.parametrize(("kind", "config", "settings", "router"), ROUTERS, ids=[row[0] for row in ROUTERS])
def test_routers_are_out(kind: str, config: str, settings: dict[str, Any], router: str) -> None:
    found = outside(kind, config, settings)
    routers = [name for name, reason in found.items() if reason == "router"]
    assert any(router in name for name in routers)
    others = {reason for name, reason in found.items() if name not in routers}
    assert others <= {"embedding", "norm", "unknown layer", "output head"}


def test_a_router_is_asked_for_by_name() -> None:
    class TopKRouter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.choice = nn.Linear(4, 2)

    net = nn.ModuleDict({"chooser": TopKRouter(), "fc": nn.Linear(4, 4)})
    assert list(find_scope(net).tensors) == ["fc.weight"]
    assert list(find_scope(net, scope="chooser.choice.weight").tensors) == ["chooser.choice.weight"]
    assert list(find_scope(net, scope="*").tensors) == ["fc.weight"]


def test_routing_of_conditional_convolutions() -> None:
    timm = pytest.importorskip("timm")
    module = timm.models._efficientnet_blocks
    net = module.CondConvResidual(4, 4, num_experts=2)
    found = find_scope(net)
    assert {row.name: row.reason for row in found.outside} == {"routing_fn.weight": "router"}
    assert found.blocks.keys() == {"conv_pw.weight", "conv_dw.weight", "conv_pwl.weight"}
    assert set(found.tensors) == set(found.blocks)
