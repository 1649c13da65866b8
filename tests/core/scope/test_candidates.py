"""All tensors of a network; what pruning may touch of them is in test_scope.py."""

import pytest
import torch
from tests.core.networks import Net
from torch import nn

from gpmt.core.layers.roles import Role
from gpmt.core.scope.candidates import find_candidates
from gpmt.core.scope.described import Described, Description
from gpmt.errors import ScopeError


def test_every_parameter_is_there_once_with_what_it_is_for():
    net = Net()
    rows = find_candidates(net).rows
    assert [row.name for row in rows] == [name for name, _ in net.named_parameters()]
    roles = {row.name: row.role for row in rows}
    assert roles["body.conv1.weight"] is Role.LAYER
    assert roles["body.conv1.bias"] is roles["body.bn1.weight"] is roles["gain"] is Role.NO_WEIGHTS
    assert roles["tokens.weight"] is Role.EMBEDDING
    assert roles["mixing"] is Role.OTHER


def test_tied_tensors_are_one_with_several_names():
    net = nn.ModuleDict({"a": nn.Linear(3, 3), "b": nn.Linear(3, 3, bias=False)})
    net["b"].weight = net["a"].weight
    row = find_candidates(net).rows[0]
    assert row.names == ["a.weight", "b.weight"]
    assert row.owners == [net["a"], net["b"]]
    assert row.roles == [Role.LAYER, Role.LAYER]


def test_files_are_judged_by_their_network():
    net = nn.ModuleDict({"odd_embedding": nn.Linear(4, 3, bias=False), "attn": nn.MultiheadAttention(4, 2)})
    net.register_buffer("table", torch.ones(3, 3))
    state = {f"model.{name}": tensor for name, tensor in net.state_dict().items()}
    names = {name: name.removeprefix("model.") for name in state}
    known = find_candidates(Described(state, lambda _: Description(net, names)))
    roles = {row.name: row.role for row in known.rows}
    assert roles["model.odd_embedding.weight"] is Role.LAYER
    assert roles["model.table"] is Role.NO_WEIGHTS
    fused = next(row for row in known.rows if row.name == "model.attn.in_proj_weight")
    blocks = known.blocks(fused)
    assert blocks is not None
    assert blocks.splits[0].labels == ("q", "k", "v")


def test_other_objects_are_refused():
    with pytest.raises(ScopeError, match="cannot prune an object of type int"):
        find_candidates(3)
