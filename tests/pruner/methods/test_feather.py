"""The settings of Feather; how it trains is tested in test_soft_rule*.py."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import gpmt
from gpmt.errors import MethodError


@pytest.mark.parametrize(("sparsity", "theta"), [(0.95, 1.0), (0.951, 0.5), (0.99, 0.5)])
def test_theta_depends_on_the_final_sparsity(sparsity: float, theta: float) -> None:
    model = nn.Linear(40, 40)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    pruner = gpmt.Pruner(model, optimizer, schedule=gpmt.Gradual(sparsity, end=3), method="feather")
    assert pruner.method == gpmt.Feather(theta=theta)


def test_theta_that_is_given_stays() -> None:
    assert gpmt.Feather(theta=0.25).for_schedule(gpmt.OneShot(0.99)).theta == 0.25


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"power": 0.5}, "power is 0.5, but must be a number of at least 1, such as 3"),
        ({"power": float("inf")}, "power is inf"),
        ({"power": "3"}, "power is '3'"),
        ({"theta": -1}, "theta is -1, but must be a number of at least 0, such as 0.5"),
        ({"theta": True}, "theta is True"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(MethodError, match=message):
        gpmt.Feather(**settings)  # type: ignore[arg-type]
