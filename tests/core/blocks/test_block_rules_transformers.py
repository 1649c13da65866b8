"""The divisions of networks of transformers mean what their labels say: the networks' own code computes with them."""

from typing import Any

import pytest
import torch
from tests.core.blocks.test_block_rules import parts, without_biases
from torch import Tensor, nn

transformers = pytest.importorskip("transformers", reason="gpmt[hf] is not installed")

IDS = torch.tensor([[3, 1, 4, 1, 5]])
SMALL = {
    "vocab_size": 30,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GROUPED = SMALL | {"num_key_value_heads": 2}
GPT2 = {"vocab_size": 30, "n_embd": 16, "n_layer": 1, "n_head": 2, "bos_token_id": 1, "eos_token_id": 2}
LATENT = {
    "num_key_value_heads": 4,
    "q_lora_rank": 8,
    "kv_lora_rank": 8,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 4,
    "v_head_dim": 6,
}
EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 8}


def build(kind: str, config: str, settings: dict[str, Any], attention: str = "eager") -> nn.Module:
    """Return a network with random weights and without biases."""
    made = getattr(transformers, config)(**settings, attn_implementation=attention)
    network: nn.Module = getattr(transformers, kind)(made)
    return without_biases(network)


@torch.no_grad()
@pytest.mark.parametrize(
    ("kind", "config", "settings", "name"),
    [
        ("GPT2Model", "GPT2Config", GPT2, "h.0.attn.c_attn.weight"),
        ("GPTNeoXModel", "GPTNeoXConfig", SMALL, "layers.0.attention.query_key_value.weight"),
        ("FalconModel", "FalconConfig", SMALL | {"multi_query": True}, "h.0.self_attention.query_key_value.weight"),
        ("FalconModel", "FalconConfig", SMALL | {"multi_query": False}, "h.0.self_attention.query_key_value.weight"),
        (
            "FalconModel",
            "FalconConfig",
            SMALL | {"new_decoder_architecture": True, "num_kv_heads": 2},
            "h.0.self_attention.query_key_value.weight",
        ),
        ("GPTBigCodeModel", "GPTBigCodeConfig", GPT2 | {"multi_query": True}, "h.0.attn.c_attn.weight"),
        ("GPTBigCodeModel", "GPTBigCodeConfig", GPT2 | {"multi_query": False}, "h.0.attn.c_attn.weight"),
        (
            "PersimmonModel",
            "PersimmonConfig",
            SMALL | {"qk_layernorm": False},
            "layers.0.self_attn.query_key_value.weight",
        ),
        ("Phi3Model", "Phi3Config", GROUPED, "layers.0.self_attn.qkv_proj.weight"),
        (
            "ModernBertModel",
            "ModernBertConfig",
            SMALL | {"cls_token_id": 1, "sep_token_id": 2},
            "layers.0.attn.Wqkv.weight",
        ),
    ],
)  # fmt: skip
def test_fused_attention(
    attended: list[dict[str, Tensor]], kind: str, config: str, settings: dict[str, Any], name: str
) -> None:
    network = build(kind, config, settings, "sdpa")
    blocks = parts(network, name)
    for label in "qkv":
        before = blocks[label].clone()
        blocks[label].zero_()
        attended.clear()
        network(IDS)
        assert {part for part, tensor in attended[0].items() if not tensor.any()} == {label}
        blocks[label].copy_(before)


@torch.no_grad()
@pytest.mark.parametrize(
    ("kind", "config", "settings", "name", "after"),
    [
        (
            "BloomModel",
            "BloomConfig",
            {"vocab_size": 30, "hidden_size": 16, "n_layer": 1, "n_head": 4},
            "h.0.self_attention.query_key_value.weight",
            "h.0.self_attention.dense",
        ),
        (
            "CodeGenModel",
            "CodeGenConfig",
            GPT2 | {"n_head": 4, "rotary_dim": 2},
            "h.0.attn.qkv_proj.weight",
            "h.0.attn.out_proj",
        ),
        (
            "MptModel",
            "MptConfig",
            {"vocab_size": 30, "d_model": 16, "n_layers": 1, "n_heads": 4},
            "blocks.0.attn.Wqkv.weight",
            "blocks.0.attn.out_proj",
        ),
        ("OpenAIGPTModel", "OpenAIGPTConfig", GPT2, "h.0.attn.c_attn.weight", "h.0.attn.c_proj"),
        (
            "DeepseekV3Model",
            "DeepseekV3Config",
            SMALL | LATENT,
            "layers.0.self_attn.kv_b_proj.weight",
            "layers.0.self_attn.o_proj",
        ),
    ],
)
def test_values_of_fused_attention(
    kind: str, config: str, settings: dict[str, Any], name: str, after: str
) -> None:
    network = build(kind, config, settings)
    seen: list[Tensor] = []
    network.get_submodule(after).register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    network(IDS)
    blocks = parts(network, name)
    blocks["v"].zero_()
    network(IDS)
    assert seen[0].any()
    assert not seen[1].any()
    assert blocks["k"].any()


STACKS = [
    ("MixtralModel", "MixtralConfig", GROUPED | {"num_local_experts": 4}, "mlp"),
    ("Qwen2MoeModel", "Qwen2MoeConfig", GROUPED | EXPERTS | {"num_experts": 4}, "mlp"),
    ("Qwen3MoeModel", "Qwen3MoeConfig", GROUPED | EXPERTS | {"num_experts": 4}, "mlp"),
    (
        "DeepseekV2Model",
        "DeepseekV2Config",
        SMALL | LATENT | EXPERTS | {"n_routed_experts": 4, "first_k_dense_replace": 0},
        "mlp",
    ),
    (
        "DeepseekV3Model",
        "DeepseekV3Config",
        SMALL | LATENT | EXPERTS | {"n_routed_experts": 4, "first_k_dense_replace": 0, "n_group": 2, "topk_group": 1},
        "mlp",
    ),
    ("OlmoeModel", "OlmoeConfig", GROUPED | {"num_experts": 4}, "mlp"),
    ("GraniteMoeModel", "GraniteMoeConfig", GROUPED | {"num_local_experts": 4}, "block_sparse_moe"),
    ("PhimoeModel", "PhimoeConfig", GROUPED | {"num_local_experts": 4}, "mlp"),
    ("HunYuanMoEV1Model", "HunYuanMoEV1Config", GROUPED | {"num_experts": 4, "moe_topk": 2, "head_dim": 4}, "mlp"),
]  # fmt: skip


@torch.no_grad()
@pytest.mark.parametrize(("kind", "config", "settings", "block"), STACKS, ids=[row[0] for row in STACKS])
def test_a_stack_of_experts(kind: str, config: str, settings: dict[str, Any], block: str) -> None:
    network = build(kind, config, settings)
    name = f"layers.0.{block}.experts"
    if f"{name}.gate_up_proj" not in dict(network.named_parameters()):
        pytest.skip("this release has these experts elsewhere")
    experts: Any = network.get_submodule(name)
    example = torch.randn(4, 16)
    chosen, weights = torch.arange(4)[:, None], torch.ones(4, 1)  # each row its own expert
    before = experts(example, chosen, weights)
    blocks = parts(network, f"{name}.gate_up_proj")
    assert len(blocks) == 8
    blocks["[2].up"].mul_(2)  # linear in up, and not in the gate
    after = experts(example, chosen, weights)
    torch.testing.assert_close(after[2], 2 * before[2])
    assert torch.equal(after[[0, 1, 3]], before[[0, 1, 3]])
    blocks["[2].gate"].zero_()
    assert experts(example, chosen, weights).any(dim=1).tolist() == [True, True, False, True]
    parts(network, f"{name}.down_proj")["[0]"].zero_()
    assert experts(example, chosen, weights).any(dim=1).tolist() == [False, True, False, True]


@torch.no_grad()
def test_gate_and_up_of_gpt_oss_alternate() -> None:
    network = build("GptOssModel", "GptOssConfig", GROUPED | {"num_local_experts": 4, "head_dim": 4})
    name = "layers.0.mlp.experts"
    experts: Any = network.get_submodule(name)
    example, chosen, weights = torch.randn(4, 16), torch.arange(4)[:, None], torch.ones(4, 1)
    blocks = parts(network, f"{name}.gate_up_proj")
    assert experts(example, chosen, weights).any(dim=1).all()
    blocks["[1].up"].zero_()  # (up + 1) * gate * sigmoid(1.702 gate)
    gate = (example[1] @ blocks["[1].gate"].reshape(16, 24)).clamp(max=7)
    expected = (gate * (1.702 * gate).sigmoid()) @ experts.down_proj[1]
    torch.testing.assert_close(experts(example, chosen, weights)[1], expected)
    blocks["[3].gate"].zero_()
    assert experts(example, chosen, weights).any(dim=1).tolist() == [True, True, True, False]


@torch.no_grad()
def test_experts_of_llama4_lie_side_by_side() -> None:
    network = build(
        "Llama4TextModel",
        "Llama4TextConfig",
        GROUPED | {"num_local_experts": 4, "intermediate_size_mlp": 24, "head_dim": 4},
    )
    experts: Any = network.get_submodule("layers.0.feed_forward.experts")
    example = torch.randn(4, 16)
    before = experts(example)
    blocks = parts(network, "layers.0.feed_forward.experts.gate_up_proj")
    blocks["[3].up"].mul_(2)
    after = experts(example)
    torch.testing.assert_close(after[3], 2 * before[3])
    assert torch.equal(after[:3], before[:3])


@torch.no_grad()
def test_experts_of_jetmoe() -> None:
    settings = {"num_key_value_heads": 2, "kv_channels": 8, "num_local_experts": 4, "num_experts_per_tok": 4}
    network = build("JetMoeModel", "JetMoeConfig", SMALL | settings)
    layer: Any = network.get_submodule("layers.0.mlp")
    example = torch.randn(1, 3, 16)
    before = layer(example)
    before = before[0] if isinstance(before, tuple) else before
    for expert in range(4):
        parts(network, "layers.0.mlp.input_linear.weight")[f"[{expert}].up"].mul_(2)
    after = layer(example)
    torch.testing.assert_close(after[0] if isinstance(after, tuple) else after, 2 * before)


@torch.no_grad()
@pytest.mark.parametrize(
    ("kind", "config", "settings", "layer", "up"),
    [
        ("Phi3Model", "Phi3Config", GROUPED, "layers.0.mlp.gate_up_proj", "up"),
        ("GlmModel", "GlmConfig", GROUPED | {"head_dim": 4}, "layers.0.mlp.gate_up_proj", "up"),
        (
            "ModernBertModel",
            "ModernBertConfig",
            SMALL | {"cls_token_id": 1, "sep_token_id": 2},
            "layers.0.mlp.Wi",
            "gate",
        ),
    ],
)
def test_gated_layers(kind: str, config: str, settings: dict[str, Any], layer: str, up: str) -> None:
    network = build(kind, config, settings)
    block = network.get_submodule(layer.rpartition(".")[0])
    example = torch.randn(2, 16)
    before = block(example)
    parts(network, f"{layer}.weight")[up].mul_(2)
    torch.testing.assert_close(block(example), 2 * before)


@torch.no_grad()
def test_state_spaces() -> None:
    settings = {"vocab_size": 30, "hidden_size": 16, "num_hidden_layers": 1, "state_size": 4}
    network = build("Mamba2Model", "Mamba2Config", settings | {"num_heads": 4, "head_dim": 8, "n_groups": 2})
    mixer: Any = network.get_submodule("layers.0.mixer")
    blocks = parts(network, "layers.0.mixer.in_proj.weight")
    assert [len(blocks[label]) for label in ("gate", "x", "B", "C", "dt")] == [32, 32, 8, 8, 4]
    assert mixer(torch.randn(1, 3, 16)).any()
    blocks["gate"].zero_()
    assert not mixer(torch.randn(1, 3, 16)).any()


def test_heads_of_a_gated_delta_net() -> None:
    settings = {
        "num_experts": 4,
        "shared_expert_intermediate_size": 8,
        "head_dim": 4,
        "linear_num_value_heads": 4,
        "linear_num_key_heads": 2,
        "linear_key_head_dim": 6,
        "linear_value_head_dim": 4,
    }
    network = build("Qwen3NextModel", "Qwen3NextConfig", GROUPED | EXPERTS | settings)
    layer: Any = network.get_submodule("layers.0.linear_attn")
    blocks = parts(network, "layers.0.linear_attn.in_proj_qkvz.weight")
    scalars = parts(network, "layers.0.linear_attn.in_proj_ba.weight")
    example = torch.randn(1, 3, 16)
    found = layer.fix_query_key_value_ordering(layer.in_proj_qkvz(example), layer.in_proj_ba(example))
    for label, computed in zip("qkvzba", found, strict=True):
        rows = (blocks | scalars)[label].reshape(-1, 16)
        torch.testing.assert_close(computed.reshape(1, 3, -1), example @ rows.T)


@torch.no_grad()
def test_experts_below_one_another() -> None:
    settings = {"ffn_hidden_size": 24, "moe_num_experts": 4, "hidden_size": 16}
    module = pytest.importorskip("transformers.models.dbrx.modeling_dbrx")
    config = transformers.models.dbrx.configuration_dbrx.DbrxFFNConfig(**settings)
    experts: Any = without_biases(nn.ModuleDict({"experts": module.DbrxExperts(config)}))["experts"]
    network = nn.ModuleDict({"experts": experts})
    example, chosen, weights = torch.randn(4, 16), torch.arange(4)[:, None], torch.ones(4, 1)
    for name in ("w1", "v1", "w2"):
        block = parts(network, f"experts.mlp.{name}")["[2]"]
        before = block.clone()
        block.zero_()
        assert experts(example, chosen, weights).reshape(4, -1).any(dim=1).tolist() == [
            True,
            True,
            False,
            True,
        ]
        block.copy_(before)
