import pytest
import torch
from torch import nn

import gpmt
from gpmt.core.blocks.blocks import Blocks, Split
from gpmt.core.scope.scope import find_scope
from gpmt.core.units.registry import unit_of
from gpmt.errors import ScopeError
from gpmt.planning.items import items_of, named

BLOCKS = {"0.weight": Blocks((Split(0, (1, 2), ("a", "b")),))}


def test_blocks_are_views_of_the_weights():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    scope = find_scope(model, blocks=BLOCKS)
    items = items_of(scope, unit_of("weight"), least={})
    assert [(item.name, item.shape, item.numel) for item in items] == [
        ("0.weight.a", (1, 2), 2),
        ("0.weight.b", (2, 2), 4),
        ("1.weight", (1, 3), 3),
    ]
    assert torch.equal(items[1].values, model[0].weight[1:])
    assert items[0].values.data_ptr() == model[0].weight.data_ptr()
    assert [block.block for block in named(items, scope)] == [item.name for item in items]


def test_columns_of_blocks_and_whole_tensors():
    scope = find_scope({"0.weight": torch.tensor([[1.0, 2.0], [3.0, 0.5], [0.0, 1.0]])}, blocks=BLOCKS)
    items = items_of(scope, unit_of("column"), least={})
    assert [item.values.tolist() for item in items] == [[1.0, 2.0], [3.0, 1.5]]
    [item] = items_of(scope, unit_of("column"), least={}, whole=True)
    assert item.values.tolist() == [4.0, 3.5]


def test_nothing_is_read_of_a_sketch():
    scope = find_scope({"0.weight": torch.full((3, 2), float("nan"))}, blocks=BLOCKS)
    items = items_of(scope, unit_of("column"), least={}, read=False)
    assert [(item.numel, item.values.is_meta) for item in items] == [(2, True), (2, True)]


def test_a_name_stands_for_one_block():
    state = {"a.weight.q": torch.ones(2, 2), "a.weight": torch.ones(6, 2)}
    with pytest.raises(
        ScopeError, match=r"^a\.weight\.q is the name of a tensor and of a block, or of two blocks"
    ):
        gpmt.plan(
            state, sparsity=0.5, scope=list(state), blocks={"a.weight.q": None, "a.weight": ("q", "k", "v")}
        )
