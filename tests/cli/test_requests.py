"""What options ask of a plan, and what they cannot ask."""

import pytest

from gpmt.cli.requests import blocks_of, min_kept_of, plan_options, sparsity_of, with_macs
from gpmt.errors import BudgetError


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["0.8", "*=0.9"], r"^--sparsity is 0\.8 beside others; give each its pattern, such as '\*=0\.8' for"),
        (["a=0.8", "a=0.9"], "^--sparsity has 'a' twice; leave one of them out$"),
        (["=0.8"], r"^--sparsity is '=0\.8', but must be a pattern and a value, such as '\*\.attn\.\*=0\.9'$"),
        (["a="], "^--sparsity is 'a=', but must be a pattern and a value"),
        (["a=90"], r'^sparsity is 90, but must be at least 0 and below 1; for 90 % give 0\.9 or "90%"$'),
    ],
)  # fmt: skip
def test_sparsities_that_no_plan_can_have(values, message):
    with pytest.raises(BudgetError, match=message):
        sparsity_of(values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["many"], "^min_kept is 'many', but must be a whole number of columns"),
        (["a=-1"], "^min_kept is '-1', but must be a whole number"),
        (["x% of tensor"], "^min_kept is 'x%', but must be a number"),
        (["5 of tensor"], "^min_kept is .5 of tensor., but a share of a tensor lies between"),
    ],
)
def test_minimums_that_no_plan_can_have(values, message):
    with pytest.raises(BudgetError, match=message):
        min_kept_of(values, unit="columns")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["q,k,v"], "^--split is 'q,k,v', but must be a pattern and parts, such as '"),
        (["a=q,,v"], "^--split is 'a=q,,v', but must be a pattern and parts"),
        (["a=q"], "^--split is 'a=q', but one part is no division; give several labels, or a number$"),
        (["a=2", "a=3"], "^--split has 'a' twice"),
    ],
)
def test_divisions_that_no_tensor_can_have(values, message):
    with pytest.raises(BudgetError, match=message):
        blocks_of(values)


def test_options_are_the_arguments_of_plan():
    options = plan_options(
        min_kept=["a=3", "*=5% of tensor"],
        scope=[],
        exclude=["x"],
        split=["re:a=b=4"],
        within="tensor",
        allocation="exact",
        granularity="weight",
        seed=1,
    )
    assert options == {
        "min_kept": {"a": "3", "*": "5% of tensor"},
        "scope": None,
        "exclude": ("x",),
        "blocks": {"re:a=b": 4},
        "within": "tensor",
        "allocation": "exact",
        "granularity": "weight",
        "seed": 1,
        "pattern": None,
        "max_macs": None,
    }


def test_a_budget_of_macs_needs_the_network():
    assert with_macs({"max_macs": "10%"}, {"a": 3}) == {"max_macs": "10%", "macs": {"a": 3}}
    assert with_macs({"max_macs": None}, {"a": 3}) == {"max_macs": None}
    with pytest.raises(BudgetError, match=r"^--max-macs needs the MACs of the network, which is not known"):
        with_macs({"max_macs": "10%"}, None)
