"""The blocks of an entry of a state_dict, where its name and shape tell how it divides.

A division is told only where it is the one that networks with such names and shapes have:

| name | shape | blocks |
|---|---|---|
| `in_proj_weight` | [3 n, n] | q, k, v |
| `qkv.weight` | [3 n, n] | q, k, v |
| `c_attn.weight` | [n, 3 n] | q, k, v along the second dimension, as GPT-2 has them |
| `weight_ih*`, `weight_hh*` | by the ratio of `weight_hh*` | 4: i, f, g, o of an LSTM; 3: r, z, n of a GRU |
| `gate_up_proj.weight` | [2 m, n] beside `down_proj.weight` [n, m] | gate, up |
| `gate_up_proj` | [experts, 2 m, n] beside `down_proj` [experts, n, m] | experts, and in each gate, up |
| `gate_up_proj` | [experts, n, 2 m] beside `down_proj` [experts, m, n] | experts, and in each gate, up (1) |
| another matrix of experts | three dimensions | experts |

(1) along the last dimension; only the experts where `gate_up_proj_bias` lies beside, with which gate and up may
alternate.

Heads of their own cannot be told from one head after another, so `query_key_value.weight` and `c_attn.weight` of
[3 n, n] are one block, and `qkv.weight` beside `attention_biases` (LeViT and its relatives) or `rel_pos` (MaxViT)
too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from gpmt.core.blocks.blocks import MAX_BLOCKS, Blocks, Split
from gpmt.core.layers.layer_names import RECURRENT, Shaped, holds_experts

_QKV = ("q", "k", "v")
_GATE_UP = ("gate", "up")
_GATES = {4: ("i", "f", "g", "o"), 3: ("r", "z", "n")}


def blocks_by_name(name: str, tensor: Shaped, beside: Mapping[str, Shaped]) -> Blocks | None:
    """Return how an entry of a state_dict divides, by its name and shape; None for one block.

    Args:
        name: its name.
        tensor: the entry.
        beside: all entries by name.

    >>> import torch
    >>> blocks_by_name("h.0.attn.c_attn.weight", torch.zeros(4, 12), {}).splits[0].dim
    1
    """
    shape = tuple(tensor.shape)
    parent, _, attribute = name.rpartition(".")
    layer = parent.rpartition(".")[2]
    if holds_experts(attribute, tensor):
        return _experts(parent, attribute, shape, beside)
    if re.fullmatch(RECURRENT, attribute):
        gates = _gates(name, shape, beside)
        return None if gates is None else _one(0, shape, gates)
    if len(shape) != 2:
        return None
    if attribute == "in_proj_weight" or (attribute == "weight" and layer == "qkv"):
        around = parent.rpartition(".")[0]
        told = shape[0] == 3 * shape[1] and not _has_heads(around, beside)
        return _one(0, shape, _QKV) if told else None
    if attribute == "weight" and layer == "c_attn" and shape[1] == 3 * shape[0]:
        return _one(1, shape, _QKV)
    if attribute == "weight" and layer == "gate_up_proj":
        down = beside.get(f"{parent.removesuffix('gate_up_proj')}down_proj.weight")
        if down is not None and (2 * down.shape[-1], down.shape[0]) == shape:
            return _one(0, shape, _GATE_UP)
    return None


def blocks_of_part(
    name: str, tensor: Shaped, beside: Mapping[str, Shaped], whole: Blocks | None = None
) -> Blocks | None:
    """Return how an entry divides that becomes a part of a tensor when a network is loaded, such as one expert.

    A part is one block where it is one layer; of a part that holds several, its name and shape tell, and the blocks
    of the whole: what holds as many matrices as that has experts holds one of each.
    """
    attribute = name.rpartition(".")[2]
    parts = name.split(".")
    experts = (
        whole is not None and not whole.splits[0].labels and len(whole.splits[0].parts) == tensor.shape[0]
    )
    if tensor.ndim == 3 and (holds_experts(attribute, tensor) or "experts" in parts or experts):
        return blocks_by_name(name, tensor, beside) or _stack(tuple(tensor.shape))
    if tensor.ndim == 2 and parts[-2:] == ["gate_up_proj", "weight"] and tensor.shape[0] % 2 == 0:
        return _one(0, tuple(tensor.shape), _GATE_UP)
    return None


def _one(dim: int, shape: Sequence[int], labels: tuple[str, ...]) -> Blocks:
    return Blocks((Split.equal(dim, shape[dim], labels),))


def _stack(shape: Sequence[int]) -> Blocks | None:
    return Blocks((Split.equal(0, shape[0], shape[0]),)) if 1 < shape[0] <= MAX_BLOCKS else None


def _experts(
    parent: str, attribute: str, shape: Sequence[int], beside: Mapping[str, Shaped]
) -> Blocks | None:
    experts = _stack(shape)
    prefix = f"{parent}." if parent else ""
    down = beside.get(f"{prefix}down_proj")
    if experts is None or attribute != "gate_up_proj" or down is None or down.ndim != 3:
        return experts
    _, rows, columns = shape
    if (rows, columns) == (2 * down.shape[2], down.shape[1]):
        return Blocks((*experts.splits, Split.equal(1, rows, _GATE_UP)))
    alternating = f"{prefix}gate_up_proj_bias" in beside
    if (rows, columns) == (down.shape[2], 2 * down.shape[1]) and not alternating:
        return Blocks((*experts.splits, Split.equal(2, columns, _GATE_UP)))
    return experts


def _gates(name: str, shape: Sequence[int], beside: Mapping[str, Shaped]) -> tuple[str, ...] | None:
    """Return the gates of a recurrent layer, by how many times the rows of its weights hold its state."""
    if "weight_hr" in name or len(shape) != 2:
        return None
    recurrent = beside.get(name.replace("weight_ih", "weight_hh"))
    projection = beside.get(re.sub("weight_(ih|hh)", "weight_hr", name))
    state = projection if projection is not None else recurrent
    if state is None or state.ndim != 2 or not state.shape[1] or shape[0] % state.shape[1]:
        return None
    return _GATES.get(shape[0] // state.shape[1])


def _has_heads(around: str, beside: Mapping[str, Shaped]) -> bool:
    """Whether heads may have their own queries, keys and values, by what lies beside the projection."""
    prefixes = (f"{around}.attention_biases", f"{around}.rel_pos.")
    return any(name.startswith(prefixes) for name in beside)
