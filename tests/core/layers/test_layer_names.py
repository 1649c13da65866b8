"""How entries of a state_dict are judged; which names are embeddings is in test_scope_state_dict.py too."""

import pytest
import torch
from tests.core.networks import names
from torch import nn

from gpmt.core.layers.layer_names import kind_by_name
from gpmt.core.scope.scope import find_scope

FC = {"fc.weight": torch.zeros(3, 3)}


@pytest.mark.parametrize("layer", ["gate", "gate.wg", "gate.0", "shared_expert_gate"])
def test_a_router_lies_beside_experts(layer: str) -> None:
    router = {f"mlp.{layer}.weight": torch.zeros(4, 3)}
    expert = {"mlp.experts.0.w1.weight": torch.zeros(3, 3)}
    assert names(FC | router) == ["fc.weight", f"mlp.{layer}.weight"]
    assert names(FC | router | expert) == ["fc.weight", "mlp.experts.0.w1.weight"]
    assert names(FC | router | expert, scope=f"mlp.{layer}.weight") == [f"mlp.{layer}.weight"]
    other = {"other.experts.0.w1.weight": torch.zeros(3, 3)}
    assert names(FC | router | other) == [*FC, *router, *other]


@pytest.mark.parametrize(
    "layer", ["router", "router.layer", "router.classifier", "router_gate", "routing_fn"]
)
def test_a_router_says_so(layer: str) -> None:
    router = {f"mlp.{layer}.weight": torch.zeros(4, 3)}
    assert names(FC | router) == ["fc.weight"]
    assert names(FC | router, scope=f"mlp.{layer}.weight") == [*router]


@pytest.mark.parametrize("layer", ["lm_head", "lm_heads.1", "cls.predictions.decoder", "embed_out", "output"])
def test_an_output_head_is_asked_for_by_name(layer: str) -> None:
    embedding = {"model.embed_tokens.weight": torch.zeros(9, 4)}
    head = {f"{layer}.weight": torch.zeros(9, 4)}
    assert names(FC | embedding | head) == ["fc.weight"]
    assert names(FC | embedding | head, scope=["*", layer]) == ["fc.weight", *head]
    assert names(FC | embedding | head, scope=f"{layer}.weight") == [*head]
    alone = ["fc.weight"] if layer.startswith("lm_head") else ["fc.weight", *head]
    assert names(FC | head) == alone
    classes = {f"{layer}.weight": torch.zeros(5, 4)}
    assert names(FC | embedding | classes) == (
        alone if layer.startswith("lm_head") else ["fc.weight", *classes]
    )


def test_a_stack_of_output_heads_is_one() -> None:
    heads = {"depth_decoder.codebooks_head.weight": torch.zeros(3, 9, 4)}
    assert names(FC | heads) == ["fc.weight"]
    assert names(FC | heads, scope=["*", "depth_decoder.codebooks_head"]) == ["fc.weight", *heads]


def test_a_classifier_is_no_output_head() -> None:
    state = {"pos_embed.weight": torch.zeros(9, 4), "head.weight": torch.zeros(9, 4)}
    assert names(state) == ["head.weight"]


@pytest.mark.parametrize("layer", ["class_embed", "context_embedder", "embed_state", "predictor_embeddings"])
def test_a_layer_named_like_an_embedding_has_a_bias(layer: str) -> None:
    weight, bias = {f"{layer}.weight": torch.zeros(4, 3)}, {f"{layer}.bias": torch.zeros(4)}
    assert names(FC | weight) == ["fc.weight"]
    assert names(FC | weight | bias) == ["fc.weight", f"{layer}.weight"]
    assert names(FC | weight | {f"{layer}.bias": torch.zeros(3)}) == ["fc.weight"]


@pytest.mark.parametrize(
    "layer",
    [
        "mask_tokens",
        "iou_token",
        "tokens",
        "codebook",
        "query_feat",
        "queries_features",
        "input_embeds_layer",
        "input_embeds_layers",
        "position_embedding_table",
        "pe_k",
        "bias_values",
    ],
)
def test_embeddings_by_other_names(layer: str) -> None:
    assert names(FC | {f"model.{layer}.weight": torch.zeros(4, 3)}) == ["fc.weight"]
    assert names(FC | {f"model.{layer}.weight": torch.zeros(4, 3)}, scope=f"model.{layer}") == [
        f"model.{layer}.weight"
    ]


@pytest.mark.parametrize("layer", ["tokenizer", "codebooks_head", "table_head", "gates"])
def test_layers_that_sound_alike(layer: str) -> None:
    assert names({f"{layer}.weight": torch.zeros(4, 3)}) == [f"{layer}.weight"]


def test_convolutions_in_a_block_with_a_norm_and_norms_of_more_dimensions() -> None:
    state = FC | {
        "encoder.convnormrelu.0.weight": torch.zeros(4, 3, 7, 7),
        "layernorm.weight": torch.zeros(4, 5, 5),
        "stage.0.grn.weight": torch.zeros(1, 1, 1, 8),
    }
    assert names(state) == ["fc.weight", "encoder.convnormrelu.0.weight"]


def test_experts_in_one_tensor() -> None:
    state = {
        "mlp.experts.gate_up_proj": torch.zeros(4, 6, 3),
        "mlp.experts.down_proj": torch.zeros(4, 3, 3),
        "mlp.experts.gate_up_proj_bias": torch.zeros(4, 6),
        "mlp.shared.gate_up_proj": torch.zeros(6, 3),
    }
    found = find_scope(state)
    assert found.kinds == {"mlp.experts.gate_up_proj": "experts", "mlp.experts.down_proj": "experts"}
    assert kind_by_name("gate_up_proj", torch.zeros(6, 3)) == "matrix"


def test_a_module_holds_experts_alike() -> None:
    class Experts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate_up_proj = nn.Parameter(torch.zeros(4, 6, 3))
            self.down_proj = nn.Parameter(torch.zeros(4, 3, 3))
            self.weight = nn.Parameter(torch.zeros(4, 3, 3))
            self.gate_up_proj_bias = nn.Parameter(torch.zeros(4, 6))

    assert names(nn.ModuleDict({"experts": Experts()})) == [
        "experts.gate_up_proj",
        "experts.down_proj",
        "experts.weight",
    ]
