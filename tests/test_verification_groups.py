"""Verification of groups that have a sparsity each."""

import pytest
import torch

import gpmt
from gpmt.errors import BudgetError


def weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {
        "attn.weight": torch.randn(20, 10),
        "a.weight": torch.randn(10, 10),
        "b.weight": torch.randn(30, 10),
    }


BUDGET = {"attn.*": 0.8, "*": 0.9}


def total(result) -> str:
    return next(check.message for check in result.checks if check.name == "groups")


def test_every_group_has_the_sparsity_that_was_asked_for() -> None:
    state = weights()
    masks = gpmt.prune_(state, sparsity=BUDGET).masks()
    result = gpmt.verify(state, sparsity=BUDGET)
    assert result
    assert total(result) == "in each of 2 groups as many weights are pruned as asked for"
    assert gpmt.verify(state, sparsity=BUDGET, masks=masks)
    wrong = gpmt.verify(state, sparsity={"attn.*": 0.9, "*": 0.9})
    assert not wrong
    assert "asked for in attn.* (160 for 180 of 200)" in total(wrong)
    assert gpmt.verify(state, sparsity={"attn.*": 0.9, "*": 0.9}, tolerance=20)


def test_every_tensor_has_the_sparsity_that_was_asked_for() -> None:
    state = weights()
    gpmt.prune_(state, sparsity=0.75, within="tensor")
    assert gpmt.verify(state, sparsity=0.75, within="tensor")
    gpmt.prune_(other := weights(), sparsity=0.75)
    assert gpmt.verify(other, sparsity=0.75)
    assert not gpmt.verify(other, sparsity=0.75, within="tensor")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sparsity": {"attn.*": 0.9}}, "no pattern of sparsity matches a.weight and 1 more blocks"),
        ({"sparsity": BUDGET, "within": "row"}, "rows and patterns are verified with one sparsity"),
        ({"sparsity": 0.5, "within": "layer"}, "within is 'layer'"),
    ],
)
def test_requests_that_cannot_be_verified(options, message) -> None:
    with pytest.raises(BudgetError, match=message):
        gpmt.verify(weights(), **options)
