import pytest
import torch
from torch import nn

from gpmt.core.scope.scope import find_scope
from gpmt.errors import BudgetError, ScopeError
from gpmt.planning.request import Request


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"granularity": "pixel"}, BudgetError, "granularity is 'pixel'"),
        ({"allocation": "best"}, BudgetError, "allocation is 'best'"),
        ({"allocation": "erk", "granularity": "column"}, BudgetError, '"erk" shares single weights only'),
        ({"within": "layer"}, BudgetError, "within is 'layer'"),
        ({"min_kept": "many"}, BudgetError, "min_kept is 'many'"),
        ({"max_macs": "many", "macs": {}}, BudgetError, "max_macs is 'many'"),
    ],
)
def test_values_that_cannot_be_right_for_any_network_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        Request([0.5], **options)


def test_a_request_without_a_sparsity_needs_a_budget_in_macs():
    with pytest.raises(BudgetError, match="there is no sparsity"):
        Request([None])
    assert Request([None], max_macs=5, macs={"a": 3}).max_macs == 5


def test_columns_of_reparametrised_weights_are_refused():
    model = nn.utils.parametrizations.weight_norm(nn.Linear(2, 2))
    assert list(Request([0.5]).least(find_scope(model)).values()) == [2]
    with pytest.raises(
        ScopeError, match="is reparametrised, and whole columns are pruned of plain weights only"
    ):
        Request([0.5], granularity="column").least(find_scope(model))


def test_the_scope_is_that_of_the_patterns():
    weights = {"a.weight": torch.ones(2, 2), "b.weight": torch.ones(2, 2)}
    found = Request([0.5], exclude="b.weight", blocks={"a.weight": ("q", "k")}).find_scope(weights)
    assert (list(found.tensors), found.blocks["a.weight"].names("a")) == (["a.weight"], ["a.q", "a.k"])
