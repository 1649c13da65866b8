"""What the rows of a plan know of their tensors."""

import torch
from torch import nn

import gpmt
from gpmt.core.blocks.blocks import WHOLE, Blocks, Split
from gpmt.planning.decide import decide


def test_rows_know_their_cut_their_dtype_and_how_the_tensor_divides():
    state = {"qkv.weight": torch.arange(1.0, 25).view(6, 4), "fc.weight": torch.zeros(2, 2)}
    thirds = Blocks((Split.equal(0, 6, ("q", "k", "v")),))
    [plan] = decide(state, [0.75], min_kept=1, blocks={"qkv.weight": thirds})
    qkv, fc = plan.tensors
    assert (qkv.divided, fc.divided) == (thirds, WHOLE)
    assert (qkv.dtype, fc.dtype) == ("float32", "float32")
    assert [block.zero for block in plan.blocks] == [False, False, False, True]
    assert [(block.cut.kept, block.cut.ties) for block in plan.blocks] == [(1, 1), (1, 1), (4, 1), (1, 1)]


def test_the_first_and_the_last_layer_are_known():
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    assert [row.end for row in gpmt.plan(network, sparsity=0.5).tensors] == ["first", None, "last"]
