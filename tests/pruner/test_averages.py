"""Which module is an average of the model; test_pruner_copies.py trains with averages."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from gpmt.core.schedule.schedule import OneShot
from gpmt.errors import MaskError


def test_averages_inside_wrappers_are_found(toy: Any) -> None:
    run = toy.start(OneShot(0.9))

    class Holder(nn.Module):
        """Like timm's ModelEmaV3."""

        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.module = copy.deepcopy(model)

    for average in (
        Holder(run.model),
        AveragedModel(Holder(run.model)),
        torch.compile(AveragedModel(run.model)),
    ):
        run.pruner.track(average)


def test_a_module_that_is_not_an_average_of_the_model_is_refused(toy: Any) -> None:
    run = toy.start(OneShot(0.9))
    with pytest.raises(
        MaskError, match="Linear is not an average of the model, because it lacks some of its 5 prunable"
    ):
        run.pruner.track(nn.Linear(3, 3))
    other = toy.model()
    other.head = nn.Linear(32, 7)
    with pytest.raises(MaskError, match="SmallNet is not an average of the model"):
        run.pruner.track(other)
