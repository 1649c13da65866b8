from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from gpmt.calibration.gradients import mean_gradients
from gpmt.calibration.prunable import prunable
from gpmt.core.blocks.blocks import Blocks, Split
from gpmt.core.scope.scope import find_scope
from gpmt.errors import CalibrationError, ScoresError
from gpmt.warning import GpmtWarning
from tests.calibration.networks import CASES, assert_same_state, make, slow_gradients, state_of


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_those_of_backward(name: str) -> None:
    model, batches = make(name)
    expected = slow_gradients(model, batches)
    found = mean_gradients(*prunable(model, None, ()), batches, None)
    assert list(found) == list(expected)
    for tensor, parts in expected.items():
        assert found[tensor].dtype == (torch.float64 if name == "double" else torch.float32)
        torch.testing.assert_close(found[tensor], torch.stack(parts).mean(0), rtol=1e-5, atol=1e-8)
        assert found[tensor].any()


@pytest.mark.parametrize("name", ["conv", "mixtral"])
def test_nothing_of_the_network_changes(name: str) -> None:
    model, batches = make(name)
    next(model.parameters()).grad = torch.ones_like(next(model.parameters()))
    before = state_of(model)
    mean_gradients(*prunable(model, None, ()), batches, None)
    assert_same_state(before, state_of(model))


def test_nothing_changes_where_a_batch_fails() -> None:
    model, batches = make("conv")
    before = state_of(model)
    with pytest.raises(CalibrationError, match="does not run on batch 3"):
        mean_gradients(*prunable(model, None, ()), [*batches, batches[0][0][:, :1]], None)
    assert_same_state(before, state_of(model))


def test_blocks_that_the_loss_does_not_depend_on_are_named() -> None:
    layer = nn.Linear(2, 4)
    found = replace(find_scope(layer), blocks={"weight": Blocks((Split(0, (2, 2), ("gate", "up")),))})
    with pytest.warns(GpmtWarning, match=r"does not depend on weight\.up, so all scores there are 0"):
        mean_gradients(layer, found, [torch.ones(1, 2)], lambda output, batch: output[:, :2].sum())


def test_experts_in_one_tensor() -> None:
    model, batches = make("mixtral")
    found = mean_gradients(*prunable(model, None, ()), batches, None)
    assert found["model.layers.0.mlp.experts.gate_up_proj"].shape == (3, 32, 8)


class Unused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used = nn.Linear(2, 2)
        self.others = nn.ModuleList(nn.Linear(2, 2) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        return self.used(x)


def test_weights_that_the_loss_does_not_depend_on_get_zeros_and_a_warning() -> None:
    model = Unused()
    with pytest.warns(
        GpmtWarning,
        match=r"does not depend on others\.0\.weight, others\.1\.weight, others\.2\.weight and 1 more, so all",
    ):
        found = mean_gradients(
            *prunable(model, None, ()), [torch.ones(1, 2)], lambda output, batch: output.sum()
        )
    assert not found["others.3.weight"].any()
    assert found["used.weight"].all()


def test_a_loss_without_a_graph_is_refused() -> None:
    model = nn.Linear(2, 2)
    with pytest.raises(CalibrationError, match="batch 1 does not depend on any of the 1 prunable tensors"):
        mean_gradients(
            *prunable(model, None, ()), [torch.ones(1, 2)], lambda output, batch: output.detach().sum()
        )


def test_gradients_that_are_not_finite_are_refused_by_name() -> None:
    model = nn.Linear(2, 2)
    with pytest.raises(
        ScoresError, match="the gradient of weight is NaN or infinite, so it cannot be scored"
    ):
        # The loss is 0, its gradient is not.
        mean_gradients(
            *prunable(model, None, ()),
            [torch.ones(1, 2)],
            lambda output, batch: (output * 0).sum().abs().sqrt(),
        )


def test_weights_of_inference_mode_are_refused() -> None:
    with torch.inference_mode():
        model = nn.Linear(2, 2)
    with pytest.raises(ScoresError, match=r"weight was made in torch\.inference_mode"):
        mean_gradients(*prunable(model, None, ()), [torch.ones(1, 2)], lambda output, batch: output.sum())
