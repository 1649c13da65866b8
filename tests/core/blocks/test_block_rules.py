"""The divisions of known modules mean what their labels say: the modules' own code computes with the parts."""

import re
from functools import reduce
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from gpmt.core.scope.scope import find_scope


def parts(network: nn.Module, name: str) -> dict[str, Tensor]:
    """Return the blocks of a tensor, by the ends of their names."""
    found = find_scope(network, scope=name)
    views = found.blocks[name].views(found.tensors[name].detach())
    return {
        block.removeprefix(name).removeprefix("."): view
        for block, view in zip(found.blocks[name].names(name), views, strict=True)
    }


def without_biases(network: nn.Module) -> nn.Module:
    """Make random weights and no biases, so that what comes from a block of zeros is zero."""
    torch.manual_seed(0)
    for name, parameter in network.named_parameters():
        if "bias" in name:
            nn.init.zeros_(parameter)
        elif parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.5)
        else:
            nn.init.ones_(parameter)
    return network.eval()


@torch.no_grad()
def check_attention(network: nn.Module, name: str, run: Any, seen: list[dict[str, Tensor]]) -> None:
    """Zero one block after the other: exactly its part is zero where attention is computed."""
    without_biases(network)
    blocks = parts(network, name)
    assert {"q", "k", "v"} <= blocks.keys()
    for label in "qkv":
        before = blocks[label].clone()
        blocks[label].zero_()
        seen.clear()
        run()
        assert seen, "attention was not computed"
        zero = {part for part, tensor in seen[0].items() if not tensor.any()}
        assert zero == {label}
        blocks[label].copy_(before)


def test_multi_head_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = without_biases(nn.MultiheadAttention(8, 2))
    blocks = parts(layer, "in_proj_weight")
    assert isinstance(layer.in_proj_weight, Tensor)
    assert torch.equal(torch.cat([blocks[label] for label in "qkv"]), layer.in_proj_weight)
    with torch.no_grad():
        blocks["v"].zero_()
        example = torch.randn(3, 1, 8)
        assert not layer(example, example, example)[0].any()


@torch.no_grad()
def test_lstm() -> None:
    lstm = without_biases(nn.LSTM(3, 4))
    inputs, states = parts(lstm, "weight_ih_l0"), parts(lstm, "weight_hh_l0")
    example = torch.randn(5, 3)
    state, cell = torch.zeros(4), torch.zeros(4)
    for row, expected in zip(example, lstm(example)[0], strict=True):
        gate = {label: inputs[label] @ row + states[label] @ state for label in "ifgo"}
        cell = gate["f"].sigmoid() * cell + gate["i"].sigmoid() * gate["g"].tanh()
        state = gate["o"].sigmoid() * cell.tanh()
        torch.testing.assert_close(state, expected)


@torch.no_grad()
@pytest.mark.parametrize("kind", [nn.GRU, nn.GRUCell])
def test_gru(kind: Any) -> None:
    gru = without_biases(kind(3, 4))
    end = "_l0" if kind is nn.GRU else ""
    inputs, states = parts(gru, f"weight_ih{end}"), parts(gru, f"weight_hh{end}")
    row, state = torch.randn(1, 3), torch.randn(1, 4)
    expected = gru(row, state)[0]
    from_input = {label: row @ inputs[label].T for label in "rzn"}
    from_state = {label: state @ states[label].T for label in "rzn"}
    reset, update = ((from_input[label] + from_state[label]).sigmoid() for label in "rz")
    new = (from_input["n"] + reset * from_state["n"]).tanh()
    torch.testing.assert_close(((1 - update) * new + update * state).reshape(expected.shape), expected)


def test_plain_recurrent_layers_are_one_block() -> None:
    assert find_scope(nn.RNN(3, 4)).blocks == {}


@torch.no_grad()
def test_swin_of_torchvision() -> None:
    attention = torchvision.models.swin_transformer.ShiftedWindowAttention(8, [4, 4], [0, 0], 2)
    network = without_biases(nn.Sequential(attention))
    parts(network, "0.qkv.weight")["v"].zero_()
    assert not network(torch.randn(1, 4, 4, 8)).any()


WINDOW = {"dim": 8, "num_heads": 2, "window_size": (2, 2)}
HEADS = {"dim": 8, "key_dim": 4, "num_heads": 2, "resolution": (2, 2)}


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("models.vision_transformer.Attention", {"dim": 8, "num_heads": 2}),
        ("layers.attention.AttentionRope", {"dim": 8, "num_heads": 2}),
        ("models.tiny_vit.Attention", HEADS),
        ("models.tiny_vit.Attention", HEADS | {"attn_ratio": 2}),
        ("models.maxxvit.AttentionCl", {"dim": 8, "dim_head": 4}),
        ("models.maxxvit.AttentionCl", {"dim": 8, "dim_head": 4, "head_first": False}),
        ("models.vision_transformer.ParallelScalingBlock", {"dim": 8, "num_heads": 2}),
    ],
)
def test_attention_of_timm(attended: Any, kind: str, settings: dict[str, Any]) -> None:
    layer = reduce(getattr, kind.split("."), pytest.importorskip("timm"))(**settings)
    network = nn.ModuleDict({"attn": layer})
    name = "qkv" if hasattr(layer, "qkv") else "in_proj"
    check_attention(network, f"attn.{name}.weight", lambda: layer(torch.randn(1, 4, 8)), attended)


@torch.no_grad()
@pytest.mark.parametrize(
    ("kind", "settings", "lengths"),
    [
        ("levit.Attention", HEADS | {"key_dim": 2, "num_heads": 3, "attn_ratio": 2}, [6, 6, 12]),
        ("efficientformer.Attention", HEADS | {"attn_ratio": 2}, [8, 8, 16]),
        ("gcvit.WindowAttentionGlobal", WINDOW | {"use_global": False}, [8, 8, 8]),
        ("swin_transformer.WindowAttention", WINDOW, [8, 8, 8]),
        ("twins.GlobalSubSampleAttn", {"dim": 8, "num_heads": 2, "sr_ratio": 1}, [8, 8]),
    ],
)
def test_values_of_timm(kind: str, settings: dict[str, Any], lengths: list[int]) -> None:
    layer = reduce(getattr, kind.split("."), pytest.importorskip("timm").models)(**settings)
    network = without_biases(nn.ModuleDict({"attn": layer}))
    name = next(name for name, _ in network.named_parameters() if re.search(r"kv\..*weight$", name))
    blocks = parts(network, name)
    assert [block.numel() // 8 for block in blocks.values()] == lengths
    given = (torch.randn(1, 4, 8), (2, 2)) if kind.startswith("twins") else (torch.randn(1, 4, 8),)
    assert layer(*given).any()
    blocks["v"].zero_()
    assert not layer(*given).any()


@torch.no_grad()
@pytest.mark.parametrize("gate_last", [True, False])
def test_gated_layers_of_timm(gate_last: bool) -> None:
    timm = pytest.importorskip("timm")
    layer = without_biases(timm.layers.GluMlp(6, 8, act_layer=nn.SiLU, gate_last=gate_last))
    example = torch.randn(2, 6)
    before = layer(example)
    parts(layer, "fc1.weight")["up"].mul_(2)
    torch.testing.assert_close(layer(example), 2 * before)  # linear in up, and not in the gate


@torch.no_grad()
def test_kernels_of_a_conditional_convolution() -> None:
    timm = pytest.importorskip("timm")
    layer = timm.layers.CondConv2d(3, 4, 3, num_experts=5)
    network = nn.ModuleDict({"conv": layer})
    found = find_scope(network)
    assert found.blocks["conv.weight"].names("w") == [f"w[{kernel}]" for kernel in range(5)]
    parts(network, "conv.weight")["[2]"].zero_()
    routing = torch.eye(5)[2:3]
    assert not layer(torch.randn(1, 3, 6, 6), routing).any()
    assert layer(torch.randn(1, 3, 6, 6), routing.roll(1)).any()
