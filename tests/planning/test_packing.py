"""Masks are made of the weights that were planned, or not at all."""

import pytest
import torch
from tests.core.networks import small_network

import gpmt
from gpmt.errors import WeightsError


def test_weights_changed_after_planning_are_noticed():
    model = small_network()
    plan = gpmt.plan(model, sparsity=0.5)
    with torch.no_grad():
        model[4].weight.mul_(2)
    with pytest.raises(
        WeightsError, match=r"the weights of 4\.weight have changed since they were planned; plan again"
    ):
        plan.masks()


def test_weights_changed_without_pytorch_are_noticed_too():
    model = small_network()
    plan = gpmt.plan(model, sparsity=0.5)
    model[0].weight.detach().numpy()[:] = 7
    with pytest.raises(WeightsError, match=r"0\.weight have changed"):
        plan.masks()
