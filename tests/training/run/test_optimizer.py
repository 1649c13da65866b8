import pytest
import torch
from torch import nn

from gpmt.training.recipes.schema import Training
from gpmt.training.run.optimizer import make_optimizer


@pytest.fixture
def model() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 2))


def test_sgd_takes_its_settings(model: nn.Module):
    settings = Training(lr=0.3, momentum=0.8, nesterov=True, weight_decay=0.01)
    optimizer = make_optimizer(model, settings)
    assert type(optimizer) is torch.optim.SGD
    [group] = optimizer.param_groups
    assert {key: group[key] for key in ("lr", "momentum", "nesterov", "weight_decay")} == {
        "lr": 0.3,
        "momentum": 0.8,
        "nesterov": True,
        "weight_decay": 0.01,
    }
    assert all(a is b for a, b in zip(group["params"], model.parameters(), strict=True))


@pytest.mark.parametrize(("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)])
def test_momentum_is_the_first_beta_of_adam(model: nn.Module, name, kind):
    optimizer = make_optimizer(model, Training(optimizer=name, lr=0.01, momentum=0.7, weight_decay=0.1))
    assert type(optimizer) is kind
    [group] = optimizer.param_groups
    assert (group["lr"], group["betas"], group["weight_decay"]) == (0.01, (0.7, 0.999), 0.1)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_weight_decay_can_spare_norms_and_biases(model: nn.Module, name):
    optimizer = make_optimizer(model, Training(optimizer=name, weight_decay=0.1, decay_norms=False))
    decayed, spared = optimizer.param_groups
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
    assert [p.ndim for p in decayed["params"]] == [4, 2]
    assert [p.ndim for p in spared["params"]] == [1, 1, 1, 1]


def test_spared_parameters_do_not_shrink(model: nn.Module):
    optimizer = make_optimizer(model, Training(lr=1.0, momentum=0, weight_decay=0.5, decay_norms=False))
    nn.init.ones_(model[3].weight)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert (model[3].weight == 0.5).all()
    assert (model[1].weight == 1).all()
