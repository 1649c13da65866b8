"""How the table of divisions is looked up."""

import torch
from torch import nn

from gpmt.core.blocks.module_blocks import blocks_in
from gpmt.core.scope.scope import find_scope


class Own(nn.MultiheadAttention):
    """A class of the user's, derived from one that is known."""


def test_classes_derived_from_known_ones() -> None:
    assert find_scope(Own(4, 2)).blocks["in_proj_weight"].splits[0].labels == ("q", "k", "v")


def test_a_module_around_a_layer() -> None:
    net = nn.Sequential(nn.TransformerEncoderLayer(4, 2, 8), nn.LSTM(4, 3))
    found = find_scope(net).blocks
    assert list(found) == ["0.self_attn.in_proj_weight", "1.weight_ih_l0", "1.weight_hh_l0"]


def test_a_layer_that_peft_has_wrapped() -> None:
    net = nn.ModuleDict({"attn": Own(4, 2)})
    wrapped = nn.ModuleDict({"base_layer": net["attn"]})
    assert list(find_scope(nn.ModuleDict({"attn": wrapped})).blocks) == ["attn.base_layer.in_proj_weight"]


def test_sizes_of_another_release_are_one_block() -> None:
    layer = nn.MultiheadAttention(4, 2)
    assert blocks_in("in_proj_weight", torch.zeros(13, 4), {"": layer}) is None
    assert blocks_in("in_proj_weight", torch.zeros(12, 4), {}) is None


def test_separate_projections_are_one_block_each() -> None:
    assert find_scope(nn.MultiheadAttention(4, 2, kdim=3)).blocks == {}


def test_experts_of_an_unknown_class_are_numbered() -> None:
    class Mixture(nn.Module):
        def __init__(self, count: int) -> None:
            super().__init__()
            self.gate_up_proj = nn.Parameter(torch.zeros(count, 6, 3))

    found = find_scope(nn.ModuleDict({"m": Mixture(3)})).blocks["m.gate_up_proj"]
    assert found.names("e") == ["e[0]", "e[1]", "e[2]"]
    assert find_scope(nn.ModuleDict({"m": Mixture(1)})).blocks == {}


def test_a_parametrised_weight_is_divided_as_it_is_used() -> None:
    layer = nn.utils.parametrizations.weight_norm(nn.MultiheadAttention(4, 2), "in_proj_weight")
    found = find_scope(layer)
    name = "parametrizations.in_proj_weight.original1"
    assert found.blocks[name].splits[0].labels == ("q", "k", "v")
