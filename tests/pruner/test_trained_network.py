"""What methods work with; the Pruner's own tests run it with training."""

from __future__ import annotations

import copy
from fractions import Fraction

import pytest
import torch
from torch import nn

from gpmt.masks import Masks
from gpmt.pruner.arguments import complete
from gpmt.pruner.trained_network import TrainedNetwork
from gpmt.warning import GpmtWarning


def trained(fixed: Masks | None = None) -> TrainedNetwork:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False))
    return TrainedNetwork(model, [torch.optim.SGD(model.parameters(), lr=0.1)], complete({}), fixed)


def test_a_pruning_sets_masks_weights_and_the_plan() -> None:
    network = trained()
    network.prune(Fraction(3, 4))
    assert network.masks is not None
    assert network.plan is not None
    assert network.masks.total_kept == network.plan.kept == 32
    assert sum(int((weight != 0).sum()) for weight in network.prunable().values()) == 32


def test_masks_that_are_lifted_leave_no_plan() -> None:
    network = trained()
    network.prune(Fraction(1, 2))
    network.change_masks(None)
    assert (network.masks, network.plan) == (None, None)


def test_given_masks_name_what_is_prunable() -> None:
    masks = Masks.from_dense({"1.weight": torch.ones(8, 8, dtype=torch.bool)})
    assert list(trained(masks).prunable()) == ["1.weight"]


def test_a_tensor_that_is_left_with_nothing_is_told_once() -> None:
    network = trained()
    with torch.no_grad():
        network.prunable()["0.weight"].mul_(1e-3)
    with pytest.warns(GpmtWarning, match=r"0\.weight"):
        network.prune(Fraction(3, 4))
    network.prune(Fraction(3, 4))


def test_a_copy_has_no_plan() -> None:
    network = trained()
    network.prune(Fraction(1, 2))
    assert copy.deepcopy(network).plan is None
