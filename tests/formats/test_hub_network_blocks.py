"""A network and the folder that `save_pretrained` writes have the same blocks, though files may hold each expert."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gpmt
from gpmt.core.scope.scope import Scope, find_scope
from gpmt.formats.load import load

transformers = pytest.importorskip("transformers", reason="gpmt[hf] is not installed")

SMALL = {
    "vocab_size": 30,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 24,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
EXPERTS = {"moe_intermediate_size": 8, "num_experts_per_tok": 2}
LATENT = {"q_lora_rank": 8, "kv_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 6}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "LlamaForCausalLM": ("LlamaConfig", SMALL),
    "GteForMaskedLM": ("GteConfig", SMALL),  # whose files hold q, k and v as one
    "Phi3ForCausalLM": ("Phi3Config", SMALL),
    "MixtralForCausalLM": ("MixtralConfig", SMALL | {"num_local_experts": 4}),
    "Qwen3MoeForCausalLM": ("Qwen3MoeConfig", SMALL | EXPERTS | {"num_experts": 4}),
    "GptOssForCausalLM": ("GptOssConfig", SMALL | {"num_local_experts": 4, "head_dim": 4}),
    "DeepseekV3ForCausalLM": (
        "DeepseekV3Config",
        SMALL
        | EXPERTS
        | LATENT
        | {
            "num_key_value_heads": 4,
            "n_routed_experts": 4,
            "first_k_dense_replace": 1,
            "n_group": 2,
            "topk_group": 1,
        },
    ),
}


def build(kind: str, **settings: Any) -> nn.Module:
    config, own = CASES[kind]
    torch.manual_seed(0)
    network: nn.Module = getattr(transformers, kind)(getattr(transformers, config)(**own | settings))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_()
    return network


def sizes(scope: Scope) -> Counter[int]:
    """Return how many blocks there are of each size."""
    return Counter(
        view.numel()
        for name, tensor in scope.tensors.items()
        for view in (scope.blocks[name].views(tensor) if name in scope.blocks else [tensor])
    )


def values(scope: Scope) -> Counter[float]:
    """Return how many blocks have each sum; a transposed one has the same."""
    views = (
        view
        for name, tensor in scope.tensors.items()
        for view in (scope.blocks[name].views(tensor) if name in scope.blocks else [tensor])
    )
    return Counter(round(float(view.detach().double().abs().sum()), 6) for view in views)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", CASES)
def test_a_folder_has_the_blocks_of_its_network(tmp_path: Path, kind: str, tied: bool) -> None:
    network = build(kind, tie_word_embeddings=tied)
    network.save_pretrained(tmp_path)
    found, own = find_scope(load(tmp_path).state_dict), find_scope(network)
    assert found.judged.by == "layers"
    assert found.numel == own.numel
    assert sizes(found) == sizes(own)
    assert values(found) == values(own)
    assert found.coverage.total == own.coverage.total
    reasons = [{(row.numel, row.reason) for row in scope.outside} for scope in (found, own)]
    assert reasons[0] == reasons[1]
    head = [row.reason for row in own.outside if row.name.startswith("lm_head")]
    assert head == ([] if tied else ["output head"])


@pytest.mark.parametrize(
    "kind", [kind for kind in CASES if "moe" in kind.lower() or kind[:3] in ("Mix", "Gpt", "Dee")]
)
def test_verify_agrees_with_plan_on_the_folder(tmp_path: Path, kind: str) -> None:
    network = build(kind)
    scope = find_scope(network)
    name = next(name for name in scope.tensors if name.endswith("gate_up_proj"))
    up = scope.blocks[name].names(name).index(f"{name}[2].up")
    with torch.no_grad():
        scope.blocks[name].views(scope.tensors[name])[up].mul_(1e-6)  # only its floor keeps anything of it
    plan = gpmt.prune_(network, sparsity=0.9, min_kept=5)
    network.save_pretrained(tmp_path)
    checked = gpmt.verify(tmp_path, sparsity=0.9, min_kept=5)
    assert checked.ok, str(checked)
    assert (checked.numel, checked.pruned) == (plan.numel, plan.pruned)
    assert next(block for block in plan.blocks if block.name == f"{name}[2].up").kept == 5
    assert not gpmt.verify(tmp_path, sparsity=0.9, min_kept=6).ok
    again = gpmt.plan(tmp_path, sparsity=0.9, min_kept=5)
    assert (again.numel, again.pruned) == (plan.numel, plan.pruned)
    assert Counter(block.floor for block in again.blocks) == Counter(block.floor for block in plan.blocks)
    assert Counter(block.kept for block in again.blocks) == Counter(block.kept for block in plan.blocks)


def test_names_alone_divide_what_is_not_ambiguous() -> None:
    state: dict[str, Tensor] = build("MixtralForCausalLM").state_dict()
    assert find_scope(state).blocks == find_scope(build("MixtralForCausalLM")).blocks
