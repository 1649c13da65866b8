from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.parallel import DataParallel
from torch.nn.utils.parametrizations import weight_norm

import gpmt
from gpmt.core.scope.scope import find_scope
from gpmt.errors import CalibrationError, ScoresError
from tests.calibration.networks import CASES, assert_same_state, make, slow_gradients, state_of


@pytest.mark.parametrize("name", CASES)
def test_the_weight_times_the_mean_gradient(name: str) -> None:
    model, batches = make(name)
    before = state_of(model)
    scores = gpmt.scores.taylor(model, batches)
    assert_same_state(before, state_of(model))
    gradients = slow_gradients(model, batches)
    weights = find_scope(model).tensors
    assert list(scores) == list(weights)
    for tensor, weight in weights.items():
        mean = torch.stack(gradients[tensor]).mean(0)
        expected = (mean * weight.detach()).abs()
        torch.testing.assert_close(scores[tensor], expected, rtol=1e-5, atol=1e-9)
        assert not scores[tensor].requires_grad


def test_opposite_gradients_cancel() -> None:
    layer = nn.Linear(2, 1, bias=False)
    batches = [torch.tensor([[1.0, 1.0]]), torch.tensor([[-1.0, 2.0]])]
    scores = gpmt.scores.taylor(layer, batches, loss=lambda output, batch: output.sum())
    assert scores["weight"][0, 0] == 0
    torch.testing.assert_close(scores["weight"][0, 1], 1.5 * layer.weight[0, 1].abs())


def test_scope_names_wrappers_and_losses() -> None:
    model, batches = make("conv")
    scores = gpmt.scores.taylor(DataParallel(model), batches, exclude="type:Linear")
    assert list(scores) == ["0.weight"]
    other = gpmt.scores.taylor(model, batches, scope="0", loss=lambda output, target: output[:, 0].sum())
    assert list(other) == ["0.weight"]
    assert not torch.equal(scores["0.weight"], other["0.weight"])


def test_tied_weights_have_the_first_name_and_both_gradients() -> None:
    model, batches = make("tied")
    assert list(gpmt.scores.taylor(model, batches)) == ["first.weight", "head.weight"]


def test_reparametrised_weights_are_scored_in_what_is_pruned() -> None:
    layer = weight_norm(nn.Linear(3, 2))
    scores = gpmt.scores.taylor(layer, [(torch.randn(4, 3), torch.tensor([0, 1, 0, 1]))])
    assert list(scores) == list(find_scope(layer).tensors) == ["parametrizations.weight.original1"]
    assert scores["parametrizations.weight.original1"].any()


@pytest.mark.parametrize(
    ("model", "batches", "error", "text"),
    [
        (nn.Linear(3, 2), [], CalibrationError, "batches is empty"),
        (nn.Linear(3, 2), [torch.ones(1, 4)], CalibrationError, r"does not run on batch 1, float32 \[1, 4\]"),
        (
            nn.Linear(3, 2),
            [torch.ones(1, 3)],
            CalibrationError,
            "batch 1 has no target and the network returns no",
        ),
        ({"weight": torch.ones(2, 2)}, [torch.ones(1, 2)], ScoresError, "these scores run the network"),
    ],
)
def test_what_is_wrong_is_told(model: Any, batches: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        gpmt.scores.taylor(model, batches)


@pytest.mark.filterwarnings("ignore:sparsity 0.7 leaves no weight")
@pytest.mark.parametrize(
    ("name", "score"),
    [
        *((name, gpmt.scores.taylor) for name in ("conv", "tied", "attention", "lstm", "mixtral")),
        ("tied", gpmt.scores.fisher),
        ("tied", gpmt.scores.snip),
    ],
)
def test_a_plan_keeps_the_largest(name: str, score: Any) -> None:
    model, batches = make(name)
    plan = gpmt.plan(model, sparsity=0.7, scores=lambda net: score(net, batches))
    masks, scores = plan.masks(), score(model, batches)
    kept = torch.cat([scores[tensor][masks[tensor]] for tensor in scores])
    pruned = torch.cat([scores[tensor][~masks[tensor]] for tensor in scores])
    assert len(pruned) == int(0.7 * (len(kept) + len(pruned)))
    assert kept.min() >= pruned.max()
