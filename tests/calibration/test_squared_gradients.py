from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gpmt.calibration import squared_gradients
from gpmt.calibration.prunable import prunable
from gpmt.calibration.squared_gradients import mean_squared_gradients
from gpmt.errors import CalibrationError, ScoresError
from tests.calibration.networks import (
    CASES,
    assert_same_state,
    make,
    samples_of,
    slow_gradients,
    state_of,
)


def slow(model: nn.Module, batches: list[Any]) -> dict[str, Tensor]:
    gradients = slow_gradients(model, samples_of(batches))
    return {name: torch.stack(parts).square().mean(0) for name, parts in gradients.items()}


@pytest.mark.parametrize(
    ("name", "at_once"), [*((name, None) for name in CASES), ("conv", 1), ("conv", 2), ("mixtral", 1)]
)
def test_every_sample_is_squared_on_its_own(
    name: str, at_once: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, batches = make(name)
    network, found_scope = prunable(model, None, ())
    if at_once is not None:
        monkeypatch.setattr(squared_gradients, "_AT_ONCE", at_once * found_scope.numel)
    expected = slow(model, batches)
    before = state_of(model)
    found = mean_squared_gradients(network, found_scope, batches, None)
    assert_same_state(before, state_of(model))
    assert list(found) == list(expected)
    # Several samples at once add in another order, which bfloat16 shows.
    rtol = 0.05 if name == "half" else 1e-4
    for tensor, square in expected.items():
        torch.testing.assert_close(found[tensor], square, rtol=rtol, atol=1e-3 * float(square.max()))


@pytest.mark.parametrize(("name", "together"), [("conv", True), ("lstm", True), ("bert", False)])
def test_samples_go_together_where_the_network_allows_it(
    name: str, together: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, batches = make(name)
    tried = []
    add_together = squared_gradients._add_together

    def spy(*arguments: Any) -> bool:
        tried.append(add_together(*arguments))
        return tried[-1]

    monkeypatch.setattr(squared_gradients, "_add_together", spy)
    mean_squared_gradients(*prunable(model, None, ()), batches, None)
    assert tried == ([True] * len(batches) if together else [False])


def test_the_square_of_a_batch_is_another_quantity() -> None:
    model, batches = make("conv")
    [batch] = batches[:1]
    squares = {n: parts[0].square() for n, parts in slow_gradients(model, [batch]).items()}
    found = mean_squared_gradients(*prunable(model, None, ()), [batch], None)
    for name, square in squares.items():
        assert (found[name] >= 0.999 * square).all()  # the variance is what lies between them
        assert found[name].sum() > 1.5 * square.sum()


def test_the_place_of_a_sample_in_batches_does_not_matter() -> None:
    model, batches = make("conv")
    scope = prunable(model, None, ())
    one, other = (mean_squared_gradients(*scope, given, None) for given in (batches, samples_of(batches)))
    for name in one:
        torch.testing.assert_close(one[name], other[name])


@pytest.mark.parametrize(
    ("batch", "text"),
    [
        (
            (torch.ones(2, 3), torch.zeros(3, dtype=torch.int64)),
            r"the shapes \[2, 3\], \[3\]; their first dimension",
        ),
        (torch.ones(0, 3), r"the shapes \[0, 3\]; their"),
        ({"flag": torch.tensor(1)}, "no shapes"),
    ],
)
def test_a_batch_that_cannot_be_divided_is_refused(batch: Any, text: str) -> None:
    with pytest.raises(CalibrationError, match=f"batch 1 cannot be divided into samples, .*{text}"):
        mean_squared_gradients(*prunable(nn.Linear(3, 2), None, ()), [batch], None)


@pytest.mark.parametrize(
    ("loss", "error", "text"),
    [
        (lambda output, batch: output.sum() * torch.nan, CalibrationError, "the loss of batch 1 is nan"),
        (lambda output, batch: output, CalibrationError, "must be one floating number"),
        (lambda output, batch: (output * 0).sum().abs().sqrt(), ScoresError, "the gradient of weight is NaN"),
    ],
)
def test_errors_are_those_of_one_sample(loss: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        mean_squared_gradients(*prunable(nn.Linear(3, 2), None, ()), [torch.ones(2, 3)], loss)


def test_scalars_belong_to_all_samples() -> None:
    class Scaled(nn.Linear):
        def forward(self, x: Tensor, scale: Tensor) -> Tensor:
            return super().forward(x) * scale

    layer = Scaled(2, 1, bias=False)
    batch = {"x": torch.tensor([[1.0, 2.0], [3.0, 4.0]]), "scale": torch.tensor(2.0)}
    found = mean_squared_gradients(*prunable(layer, None, ()), [batch], lambda output, batch: output.sum())
    assert found["weight"].tolist() == [[20.0, 40.0]]


class Remembering(nn.Linear):
    """A layer that keeps what it computed, as those do that compute positions when they first run."""

    def forward(self, x: Tensor) -> Tensor:
        if not hasattr(self, "positions"):
            self.positions = torch.arange(3.0, device="cpu")
        self.last = x
        return super().forward(x * self.positions)


def test_nothing_of_the_transform_stays_in_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Remembering(3, 2)
    weight = model.weight
    batches = [(torch.randn(4, 3), torch.tensor([0, 1, 0, 1]))]
    together = mean_squared_gradients(*prunable(model, None, ()), batches, None)
    assert vars(model).keys() == vars(nn.Linear(3, 2)).keys()
    assert model.weight is weight
    monkeypatch.setattr(squared_gradients, "_twin", lambda network: None)
    torch.testing.assert_close(mean_squared_gradients(*prunable(model, None, ()), batches, None), together)


def test_the_copy_has_the_tensors_of_the_network() -> None:
    model, _ = make("conv")
    twin = squared_gradients._twin(model)
    tensors, copies = ({**dict(one.named_parameters()), **dict(one.named_buffers())} for one in (model, twin))
    assert tensors.keys() == copies.keys()
    assert all(copies[name] is tensor for name, tensor in tensors.items())
    assert twin[0] is not model[0]


def test_a_network_that_cannot_be_copied_goes_sample_by_sample() -> None:
    model, batches = make("tied")
    expected = mean_squared_gradients(*prunable(model, None, ()), batches, None)
    model.computed = model.first.weight * 2
    torch.testing.assert_close(mean_squared_gradients(*prunable(model, None, ()), batches, None), expected)
