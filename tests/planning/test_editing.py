"""Plans whose blocks are given other counts."""

from fractions import Fraction

import pytest
from tests.planning.plans import divided_plan, weights

from gpmt.errors import BudgetError, PlanError


def test_blocks_keep_the_counts_that_they_are_given():
    plan = divided_plan()
    edited = plan.with_kept({"*.k": 20, "attn": "10%", "fc.weight": 1})
    assert [block.kept for block in edited.blocks] == [2, 20, 2, 1]
    assert (edited.kept, edited.sparsity) == (25, Fraction(3, 4))
    state = weights()
    masks = edited.masks(state)
    largest = state["fc.weight"].abs().argmax()
    assert masks["fc.weight"].flatten().nonzero().tolist() == [[largest]]
    assert masks["attn.qkv.weight"][2:4].all()
    assert [block.kept for block in plan.blocks] != [2, 20, 2, 1]


def test_what_is_not_named_stays():
    plan = divided_plan()
    edited = plan.with_kept({"fc.weight": "100%"})
    assert [block for block in edited.blocks if block.name != "fc.weight"] == list(plan.blocks[:3])
    assert edited.blocks[3].kept == 40
    assert edited.kept == plan.kept - plan.blocks[3].kept + 40
    assert edited.sparsity == Fraction(edited.pruned, 100)


def test_a_block_that_is_emptied_is_told():
    assert "leaves no weight in 1 of 4 blocks (fc.weight)" in divided_plan().with_kept({"fc": 0}).warnings[0]


@pytest.mark.parametrize(
    ("kept", "error", "message"),
    [
        ({"fc.weight": 41}, PlanError, "^fc.weight is to keep 41 weights, but has 40 of them$"),
        ({"fc.weight": -1}, PlanError, "^fc.weight is to keep -1 weights"),
        ({"fc.weight": "120%"}, PlanError, "^fc.weight is to keep 120% weights"),
        ({"fc.weight": 0.5}, PlanError, "^fc.weight is to keep 0.5, but give a whole number, or a share"),
        ({"fc.weight": True}, PlanError, "is to keep True"),
        (
            {"fc.weights": 3},
            BudgetError,
            "the pattern 'fc.weights' of with_kept matches nothing .* fc.weight",
        ),
        ({}, PlanError, "^kept is {}, but must be a mapping"),
        (3, PlanError, "^kept is 3, but must be a mapping"),
    ],
)
def test_counts_that_no_block_can_keep_are_refused(kept, error, message):
    with pytest.raises(error, match=message):
        divided_plan().with_kept(kept)
