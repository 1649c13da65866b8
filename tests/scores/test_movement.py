import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import LBFGS, SGD, Adam, Optimizer

import gpmt
from gpmt.errors import ScopeError, ScoresError
from gpmt.scores import Movement
from tests.calibration.networks import make, slow_loss


def train(model: nn.Module, optimizer: Optimizer, batches: list[Any]) -> dict[str, Tensor]:
    """Train a step for each batch; return −Σ w · g of all matrices, found by hand."""
    sums: dict[str, Tensor] = {}
    for batch in batches:
        optimizer.zero_grad()
        slow_loss(model, batch).backward()
        for name, weight in model.named_parameters():
            if weight.ndim > 1 and weight.grad is not None:
                moved = -(weight.detach().float() * weight.grad.float())
                sums[name] = sums.get(name, 0) + moved
        optimizer.step()
    return sums


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("half", SGD), ("tied", SGD), ("tied", Adam), ("attention", SGD), ("lstm", SGD), ("mixtral", SGD)],
)
def test_minus_weight_times_gradient_of_every_step(name: str, kind: type[Optimizer]) -> None:
    model, batches = make(name)
    model.requires_grad_(True)
    optimizer = kind(model.parameters(), lr=0.01, weight_decay=0.1)
    movement = Movement(model, optimizer)
    expected = train(model, optimizer, batches * 3)
    found = movement.scores()
    assert_equal(found, {name: expected[name] for name in found})
    assert movement.step_count == 3 * len(batches)
    assert any((score < 0).any() and (score > 0).any() for score in found.values())
    assert all(score.dtype == torch.float32 for score in found.values())


def test_weights_that_shrink_score_negative() -> None:
    layer = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[4.0, 0.1]]))
    optimizer = SGD(layer.parameters(), lr=0.1)
    movement = Movement(layer, optimizer)
    for _ in range(5):  # the first is drawn to 1, the second to 2
        optimizer.zero_grad()
        (layer.weight - torch.tensor([[1.0, 2.0]])).square().sum().backward()
        optimizer.step()
    large, small = movement.scores()["weight"][0]
    assert large < 0 < small


def test_frozen_weights_do_not_move() -> None:
    model, batches = make("conv")
    optimizer = SGD(model.parameters(), lr=0.1)
    movement = Movement(model, optimizer)
    train(model, optimizer, batches)
    assert not movement.scores()["0.weight"].any()
    assert movement.scores()["5.weight"].any()


def test_each_of_several_optimizers_counts_its_own_weights_once() -> None:
    model, batches = make("tied")
    first, head = SGD(model.first.parameters(), lr=0.1), Adam(model.head.parameters(), lr=0.1)
    movement = Movement(model, [first, head])
    slow_loss(model, batches[0]).backward()
    expected = {
        n: -(model.get_parameter(n) * model.get_parameter(n).grad).detach()
        for n in ("first.weight", "head.weight")
    }
    first.step()
    head.step()
    assert_equal(movement.scores(), expected)
    assert movement.step_count == 1


class Wrapped(SGD):
    def step(self, closure: Any = None) -> Any:
        return super().step(closure)


def test_a_step_within_a_step_counts_once() -> None:
    model, batches = make("tied")
    optimizer = Wrapped(model.parameters(), lr=0.1)
    movement = Movement(model, optimizer)
    expected = train(model, optimizer, batches * 2)
    assert_equal(movement.scores(), expected)
    assert movement.step_count == 2


@pytest.mark.parametrize("kind", [SGD, Wrapped])
def test_closures(kind: type[Optimizer]) -> None:
    model, batches = make("tied")
    optimizer = kind(model.parameters(), lr=0.1)
    movement = Movement(model, optimizer)
    expected: dict[str, Tensor] = {}

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = slow_loss(model, batches[0])
        loss.backward()
        for name in ("first.weight", "head.weight"):
            weight = model.get_parameter(name)
            expected[name] = expected.get(name, 0) - (weight * weight.grad).detach()
        return loss

    for _ in range(3):
        optimizer.step(closure)
    assert_equal(movement.scores(), expected)


def test_every_evaluation_of_lbfgs_counts() -> None:
    model, batches = make("tied")
    optimizer = LBFGS(model.parameters(), max_iter=3)
    movement = Movement(model, optimizer)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = slow_loss(model, batches[0])
        loss.backward()
        return loss

    optimizer.step(closure)
    assert movement.step_count > 1


@pytest.mark.parametrize("fused", [False, True])
def test_gradients_are_unscaled_and_skipped_steps_add_nothing(fused: bool) -> None:
    layer = nn.Linear(2, 1, bias=False)
    before = layer.weight.detach().clone()
    optimizer = SGD(layer.parameters(), lr=0.1, fused=fused)
    movement = Movement(layer, optimizer)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    for inputs in (torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, torch.inf]])):
        optimizer.zero_grad()
        scaler.scale(layer(inputs).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
    torch.testing.assert_close(movement.scores()["weight"], -before * torch.tensor([[1.0, 2.0]]))
    assert movement.step_count == 1


def test_nothing_is_recorded_after_close() -> None:
    model, batches = make("tied")
    optimizer = SGD(model.parameters(), lr=0.1)
    movement = Movement(model, optimizer)
    expected = train(model, optimizer, batches)
    movement.close()
    train(model, optimizer, batches)
    assert_equal(movement.scores(), expected)


def test_the_scores_are_a_copy() -> None:
    model, batches = make("tied")
    optimizer = SGD(model.parameters(), lr=0.1)
    movement = Movement(model, optimizer)
    train(model, optimizer, batches)
    movement.scores()["head.weight"].zero_()
    assert movement.scores()["head.weight"].any()


def test_a_resumed_recorder_ends_as_one_that_was_not_stopped() -> None:
    model, batches = make("tied")
    optimizer = SGD(model.parameters(), lr=0.1)
    movement = Movement(model, optimizer)
    train(model, optimizer, batches * 2)
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "movement": movement.state_dict()}, file)
    train(model, optimizer, batches)

    other, _ = make("tied")
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    other.load_state_dict(saved["model"])
    again = SGD(other.parameters(), lr=0.1)
    resumed = Movement(other, again)
    resumed.load_state_dict(saved["movement"])
    train(other, again, batches)
    assert resumed.step_count == movement.step_count == 3
    for name, score in movement.scores().items():
        assert torch.equal(resumed.scores()[name], score)


def test_a_state_that_does_not_fit_changes_nothing() -> None:
    model, batches = make("tied")
    optimizer = SGD(model.parameters(), lr=0.1)
    movement = Movement(model, optimizer)
    train(model, optimizer, batches)
    before, state = movement.scores(), movement.state_dict()
    shapes = {**state["scores"], "head.weight": torch.ones(3, 5)}
    fewer = {"first.weight": state["scores"]["first.weight"]}
    for wrong, text in (
        ({}, r"has version None and keys \[\], but this gpmt loads version 1"),
        (
            {**state, "scores": shapes},
            r"the state has scores of shape \[3, 5\] for head\.weight, .* \[3, 4\]",
        ),
        ({**state, "scores": fewer}, r"the state has no scores of head\.weight"),
    ):
        with pytest.raises(ScoresError, match=text):
            movement.load_state_dict(wrong)
    assert_equal(movement.scores(), before)


def test_what_is_wrong_is_told() -> None:
    model, _ = make("tied")
    movement = Movement(model, SGD(model.parameters(), lr=0.1))
    with pytest.raises(ScoresError, match="no step of the optimizer was recorded"):
        movement.scores()
    with pytest.raises(ScopeError, match="trains none of the 2 prunable tensors"):
        Movement(model, SGD(nn.Linear(2, 2).parameters(), lr=0.1))
    with pytest.raises(ScopeError, match="is of type dict"):
        Movement(model, {})
    with pytest.raises(ScoresError, match="these scores run the network"):
        Movement({}, SGD(model.parameters(), lr=0.1))


def test_gradients_that_are_not_finite_are_told_by_name() -> None:
    layer = nn.Linear(2, 1)
    optimizer = SGD(layer.parameters(), lr=0.1)
    movement = gpmt.scores.Movement(layer, optimizer)
    layer.weight.grad = torch.full((1, 2), torch.nan)
    optimizer.step()
    with pytest.raises(ScoresError, match="the movement of weight is NaN or infinite"):
        movement.scores()


def test_a_pruner_prunes_what_training_moved_to_zero() -> None:
    model, batches = make("tied")
    optimizer = SGD(model.parameters(), lr=0.01)
    movement = Movement(model, optimizer)
    pruner = gpmt.Pruner(
        model,
        optimizer,
        schedule=gpmt.OneShot(0.5, at=2),
        scores=lambda net: movement.scores(),
    )
    expected = train(model, optimizer, batches * 2)
    values = torch.cat([score.flatten() for score in expected.values()])
    threshold = values.sort().values[len(values) // 2]
    for name, score in expected.items():
        assert torch.equal(pruner.masks[name], score >= threshold)
