"""Divisions by names and shapes: of files whose network is not known."""

from typing import Any

import pytest
import torch
from torch import nn

from gpmt.core.blocks.block_names import blocks_by_name, blocks_of_part
from gpmt.core.blocks.blocks import Blocks, Split
from gpmt.core.scope.scope import find_scope


def labels(name: str, *shape: int, **beside: tuple[int, ...]) -> Any:
    """Return the labels of each split, or None; `__` in the names beside stands for a dot."""
    others = {key.replace("__", "."): torch.zeros(size) for key, size in beside.items()}
    found = blocks_by_name(name, torch.zeros(shape), others | {name: torch.zeros(shape)})
    return (
        None
        if found is None
        else [(split.dim, "".join(split.labels) or len(split.parts)) for split in found.splits]
    )


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("attn.in_proj_weight", (12, 4), [(0, "qkv")]),
        ("attn.qkv.weight", (12, 4), [(0, "qkv")]),
        ("attn.qkv.weight", (8, 4), None),  # fewer keys than queries
        ("attn.qkv.weight", (12, 4, 1, 1), None),
        ("attn.query_key_value.weight", (12, 4), None),  # heads of their own, or not
        ("attn.c_attn.weight", (4, 12), [(1, "qkv")]),
        ("attn.c_attn.weight", (12, 4), None),
        ("mlp.gate_up_proj.weight", (12, 4), None),
        ("fc.weight", (12, 4), None),
        ("mlp.experts.gate_up_proj", (5, 8, 6), [(0, 5)]),
        ("mlp.experts.down_proj", (5, 8, 6), [(0, 5)]),
        ("mlp.experts.down_proj", (1, 8, 6), None),
    ],
)  # fmt: skip
def test_alone(name: str, shape: tuple[int, ...], expected: Any) -> None:
    assert labels(name, *shape) == expected


def test_heads_that_lie_beside_a_bias_for_each() -> None:
    assert labels("attn.qkv.weight", 12, 4, attn__attention_biases=(2, 4)) is None
    assert labels("attn.qkv.weight", 12, 4, attn__rel_pos__mlp__fc1__weight=(2, 4)) is None


def test_gate_and_up_beside_down() -> None:
    assert labels("mlp.gate_up_proj.weight", 12, 4, mlp__down_proj__weight=(4, 6)) == [(0, "gateup")]
    assert labels("mlp.gate_up_proj.weight", 12, 4, mlp__down_proj__weight=(4, 12)) is None
    assert labels("gate_up_proj.weight", 12, 4, down_proj__weight=(4, 6)) == [(0, "gateup")]


def test_experts_with_gate_and_up() -> None:
    assert labels("x.gate_up_proj", 5, 12, 4, x__down_proj=(5, 4, 6)) == [(0, 5), (1, "gateup")]
    assert labels("x.gate_up_proj", 5, 4, 12, x__down_proj=(5, 6, 4)) == [(0, 5), (2, "gateup")]
    beside = {"x__down_proj": (5, 6, 4), "x__gate_up_proj_bias": (5, 12)}
    assert labels("x.gate_up_proj", 5, 4, 12, **beside) == [(0, 5)]


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_recurrent_layers_as_their_modules(kind: str) -> None:
    made = getattr(nn, kind)(3, 4, num_layers=2, bidirectional=True)
    assert find_scope(made.state_dict()).blocks == find_scope(made).blocks
    cell = getattr(nn, f"{kind}Cell")(3, 4)
    assert find_scope(cell.state_dict()).blocks == find_scope(cell).blocks


def test_an_lstm_with_a_projection_as_its_module() -> None:
    made = nn.LSTM(3, 8, proj_size=2, num_layers=2)
    found = find_scope(made)
    assert find_scope(made.state_dict()).blocks == found.blocks
    assert "weight_hr_l0" in found.tensors.keys() - found.blocks.keys()


def test_parts_of_a_tensor_of_the_network() -> None:
    single, stack = torch.zeros(6, 3), torch.zeros(4, 6, 3)
    assert blocks_of_part("mlp.experts.3.w1.weight", single, {}) is None
    found = blocks_of_part("mlp.experts.3.gate_up_proj.weight", single, {})
    assert found is not None
    assert found.names("e") == ["e.gate", "e.up"]
    whole = Blocks((Split(0, (1, 1, 1, 1)), Split(1, (6, 6), ("gate", "up"))))
    assert blocks_of_part("moe.gate.weight", stack, {}) is None
    found = blocks_of_part("moe.gate.weight", stack, {}, whole)
    assert found is not None
    assert found.names("e") == ["e[0]", "e[1]", "e[2]", "e[3]"]
    assert blocks_of_part("moe.gate.weight", torch.zeros(3, 6, 3), {}, whole) is None
    found = blocks_of_part("mlp.experts.w1", stack, {})
    assert found is not None
    assert found.names("e") == ["e[0]", "e[1]", "e[2]", "e[3]"]
