from pathlib import Path

import pytest
import torch

import gpmt
from gpmt.counting import count_tensors
from gpmt.formats.array_counts import count_array, outside, prunable
from gpmt.formats.arrays import read_weights
from gpmt.formats.checkpoint import save_checkpoint

NAMES = {
    "conv1.weight": (4, 3, 3, 3),
    "bn1.weight": (4,),
    "layer1.0.conv1.bias": (4,),
    "encoder.norm.weight": (3, 3),
    "embed_tokens.weight": (20, 4),
    "wte.weight": (20, 4),
    "pos_bias.weight": (5, 4),
    "attn.in_proj_weight": (12, 4),
    "rnn.weight_ih_l0": (8, 4),
    "rnn.weight_hh_l0": (8, 2),
    "attn.c_attn.weight": (4, 12),
    "q_proj.lora_A.default.weight": (2, 4),
    "q_proj.weight": (4, 4),
    "mlp.experts.gate_up_proj": (2, 4, 8),
    "mlp.experts.down_proj": (2, 4, 4),
    "mlp.gate.weight": (2, 4),
    "cls_token": (1, 1, 4),
    "position_ids.weight": (1, 4),
    "head.weight": (7, 4),
    "empty.weight": (0, 4),
}


@pytest.mark.parametrize("suffix", [".safetensors", ".sparse.safetensors"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_prunable_and_zero_is_what_gpmt_finds(tmp_path: Path, suffix: str, dtype: torch.dtype):
    generator = torch.Generator().manual_seed(0)
    state = {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in NAMES.items()}
    state["large.weight"] = torch.randn(1100, 1000, generator=generator).to(dtype)
    for tensor in state.values():
        tensor[torch.rand(tensor.shape, generator=generator) < 0.8] = -0.0
    state["head.weight"][0, 0] = float("nan")
    state["conv1.weight"][1] = 0
    state["position_ids.weight"] = torch.arange(4).view(1, 4)
    path = tmp_path / f"model{suffix}"
    save_checkpoint(path, state)
    found = gpmt.find_scope(gpmt.load(path).state_dict)
    stored = read_weights(path)
    kinds = prunable(stored.tensors)
    assert kinds == found.kinds
    assert outside(stored.tensors) == found.outside
    counts = tuple(
        count_array(name, kind, stored.tensors[name], stored.tensors) for name, kind in kinds.items()
    )
    assert counts == count_tensors(found)
