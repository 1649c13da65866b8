import pytest
import torch
from torch import nn

import gpmt
from gpmt.core.scope.scope import find_scope
from tests.calibration.networks import assert_same_state, make, slow_gradients, state_of


@pytest.mark.parametrize("name", ["conv", "tied", "lstm"])
def test_the_share_of_each_weight_with_the_statistics_of_the_batch(name: str) -> None:
    model, batches = make(name)
    before = state_of(model)
    scores = gpmt.scores.snip(model, batches[:1])
    assert_same_state(before, state_of(model))
    gradients = slow_gradients(model, batches[:1], training=True)
    products = {n: (w.detach() * gradients[n][0]).abs() for n, w in find_scope(model).tensors.items()}
    total = sum(float(product.sum()) for product in products.values())
    assert list(scores) == list(products)
    for tensor, product in products.items():
        torch.testing.assert_close(scores[tensor], product / total, rtol=1e-4, atol=1e-7)
    assert sum(float(score.sum()) for score in scores.values()) == pytest.approx(1)


def test_it_ranks_as_taylor_where_there_are_no_batch_norms() -> None:
    model, batches = make("tied")
    snip, taylor = gpmt.scores.snip(model, batches), gpmt.scores.taylor(model, batches)
    ratios = torch.cat([(snip[name] / taylor[name]).flatten() for name in snip])
    torch.testing.assert_close(ratios, ratios[:1].expand_as(ratios))


def test_norms_are_restored_where_it_fails() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    before = state_of(model)
    with pytest.raises(gpmt.GpmtError, match="Expected more than 1 value per channel"):
        gpmt.scores.snip(model, [(torch.ones(1, 3), torch.tensor([0]))])
    assert_same_state(before, state_of(model))
    assert model[1].running_mean is not None
