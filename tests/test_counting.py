import torch

from gpmt.core.blocks.blocks import Blocks, Split
from gpmt.core.scope.scope import find_scope
from gpmt.counting import count_blocks, count_tensors
from gpmt.masks import Masks
from gpmt.verification import verify

BLOCKS = {"w.weight": Blocks((Split(0, (1, 2), ("a", "b")),))}


def scope():
    weight = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 2.0]])
    return find_scope({"w.weight": weight, "v.weight": torch.ones(1, 2)}, blocks=BLOCKS)


def test_blocks_are_counted_one_by_one():
    masks = Masks.from_dense({"w.weight": torch.tensor([[True, True], [False, True], [False, True]])})
    rows = count_tensors(scope(), masks)
    assert [(block.name, block.numel, block.kept, block.kept_by_mask) for block in count_blocks(rows)] == [
        ("w.weight.a", 2, 1, 2),
        ("w.weight.b", 4, 1, 2),
        ("v.weight", 2, 2, 2),
    ]
    assert (rows[0].kept, rows[0].kept_by_mask, rows[1].blocks) == (2, 4, ())


def test_columns_of_blocks():
    rows = count_tensors(scope(), granularity="column")
    assert [(block.numel, block.kept, block.part) for block in count_blocks(rows)] == [
        (2, 1, True),
        (2, 1, True),
        (2, 2, False),
    ]
    assert rows[0].numel == 4


def test_a_dead_block_inside_a_live_tensor_fails_the_verification():
    weight = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
    assert verify({"w.weight": weight})
    result = verify({"w.weight": weight}, blocks=BLOCKS, min_kept=1)
    assert [check.message for check in result.checks if not check.ok] == [
        "no weight is left in w.weight.a",
        "fewer weights are kept than the minimum in w.weight.a (0 of 1)",
    ]
    assert "each of 2 blocks of 1 tensors has weights left" in str(
        verify({"w.weight": weight + 1}, blocks=BLOCKS)
    )
