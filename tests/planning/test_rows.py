from fractions import Fraction

from gpmt.planning.rows import BlockPlan, GroupPlan, TensorPlan

BLOCKS = (BlockPlan("w.q", (2, 5), 10, 4, 4, True), BlockPlan("w.k", (2, 5), 10, 1, 0, False))


def test_a_tensor_is_the_sum_of_its_blocks():
    row = TensorPlan("w", "Linear", (4, 5), BLOCKS)
    assert (row.numel, row.kept, row.pruned, row.floor, row.binds, row.density) == (20, 5, 15, 4, True, 0.25)
    document = row.to_dict(unit="columns")
    assert (document["columns"], [block["name"] for block in document["blocks"]]) == (20, ["w.q", "w.k"])
    assert "blocks" not in TensorPlan("w", "Linear", (2, 5), BLOCKS[:1]).to_dict()
    assert TensorPlan("w", "Linear", (0, 5), ()).density == 1.0


def test_a_group_as_json():
    group = GroupPlan("attn.*", Fraction(3, 4), BLOCKS, None)
    assert group.to_dict() == {
        "group": "attn.*",
        "sparsity": 0.75,
        "blocks": 2,
        "weights": 20,
        "kept": 5,
        "threshold": None,
    }
