import copy

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import update_bn

import gpmt
from gpmt.errors import CalibrationError


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4, momentum=0.3),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(16, 5),
        nn.BatchNorm1d(5),
        nn.BatchNorm1d(5, track_running_stats=False),
    )


def test_statistics_are_the_means_over_batches():
    model, batches = network().train(), [torch.randn(6, 3, 4, 4) + i for i in range(3)]
    model[2].eval()
    assert gpmt.recalibrate(model, batches) == 2
    with torch.no_grad():
        outputs = [model[0](batch) for batch in batches]
    mean = torch.stack([output.mean((0, 2, 3)) for output in outputs]).mean(0)
    variance = torch.stack([output.var((0, 2, 3), unbiased=True) for output in outputs]).mean(0)
    assert torch.allclose(model[1].running_mean, mean, atol=1e-6)
    assert torch.allclose(model[1].running_var, variance, atol=1e-6)
    assert model[1].num_batches_tracked == 3
    assert [module.training for module in model] == [True, True, False, True, True, True, True, True]
    assert (model[1].momentum, model[6].momentum) == (0.3, 0.1)


def test_without_dropout_it_is_that_of_pytorch():
    model, batches = network(), [(torch.randn(6, 3, 4, 4), torch.zeros(6)) for _ in range(3)]
    model[3] = nn.Identity()
    other = copy.deepcopy(model)
    gpmt.recalibrate(model, batches)
    update_bn(batches, other)
    assert all(torch.equal(*pair) for pair in zip(model.buffers(), other.buffers(), strict=True))


def test_a_network_without_batch_norm():
    assert gpmt.recalibrate(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)), [torch.ones(1, 2)]) == 0


@pytest.mark.parametrize(
    ("batches", "text"),
    [
        ([], "batches is empty"),
        ([torch.randn(6, 3, 4, 4), torch.randn(6, 3, 5, 4)], "the network does not run on batch 2, float32"),
        ([torch.randn(1, 3, 4, 4)], "Expected more than 1 value per channel"),
        (
            [torch.full((6, 3, 4, 4), float("nan"))],
            r"^the statistics of 1 are not finite on these batches; look for",
        ),
    ],
)
def test_a_failure_leaves_the_statistics(batches, text):
    model = network().train()
    model(torch.randn(6, 3, 4, 4))
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(CalibrationError, match=text):
        gpmt.recalibrate(model, batches)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model[1].momentum == 0.3
    assert all(module.training for module in model)
