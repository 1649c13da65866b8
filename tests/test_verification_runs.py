"""Verification of networks that were pruned in rows or in N:M patterns."""

import pytest
import torch
from torch import nn

import gpmt
from gpmt.errors import BudgetError
from gpmt.verification import verify


def message(result) -> str:
    return next(check.message for check in result.checks if check.name == "runs")


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(4, 6, 3), nn.Flatten(), nn.Linear(8, 5))


def test_a_pattern_is_checked_in_every_group():
    model = network()
    plan = gpmt.prune_(model, pattern="2:4")
    for options in ({}, {"sparsity": 0.5}, {"masks": plan.masks()}, {"min_kept": 20}):
        result = verify(model, pattern="2:4", **options)
        assert result, str(result)
        assert message(result) == "every 4 inputs of an output have the pattern 2:4"
    assert not verify(model, pattern="1:4")
    with torch.no_grad():
        model[2].weight[1, 4:] = 1
    result = verify(model, pattern="2:4")
    assert not result
    assert message(result) == "groups of 4 inputs do not have the pattern 2:4 in 2.weight (1 of 10)"
    assert message(verify(model, pattern="3:16")).endswith("0.weight (1 of 1), 2.weight (1 of 1)")


def test_rows_are_checked_one_by_one():
    model = network()
    plan = gpmt.prune_(model, within="row", sparsity=0.6, min_kept=3)
    assert plan.pruned != plan.numel * 6 // 10
    result = verify(model, within="row", sparsity=0.6, min_kept=3, masks=plan.masks())
    assert result, str(result)
    assert message(result) == "every row has sparsity 0.6"
    assert verify(model, within="row", sparsity=0.6)
    other = gpmt.plan(network(), within="row", sparsity=0.7).masks()
    assert message(verify(model, within="row", sparsity=0.6, masks=other)).startswith(
        "rows do not have sparsity 0.6"
    )
    with torch.no_grad():
        model[0].weight[3] = 1
    assert (
        message(verify(model, within="row", sparsity=0.6))
        == "rows do not have sparsity 0.6 in 0.weight (1 of 6)"
    )


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"within": "row"}, "needs the sparsity that every row has"),
        ({"within": "tensor"}, "needs the sparsity that every tensor has"),
        ({"pattern": "4:2"}, "pattern is '4:2'"),
        ({"pattern": "2:4", "sparsity": 0.9}, r"sparsity is 0\.9, but pattern 2:4"),
        ({"pattern": "2:4", "granularity": "row"}, 'granularity "row" has no meaning'),
    ],
)
def test_bad_requests(options, text):
    with pytest.raises(BudgetError, match=text):
        verify(network(), **options)
