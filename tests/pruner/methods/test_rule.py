"""The base of all rules saves nothing of its own."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gpmt.errors import MaskError
from gpmt.pruner.arguments import complete
from gpmt.pruner.methods.rule import Rule
from gpmt.pruner.trained_network import TrainedNetwork


def test_a_state_that_it_does_not_save_is_refused() -> None:
    model = nn.Linear(4, 4)
    rule = Rule(TrainedNetwork(model, [torch.optim.SGD(model.parameters(), lr=0.1)], complete({}), None))
    rule.load_state_dict(rule.state_dict())
    with pytest.raises(MaskError, match="the state holds dense, which this method does not save"):
        rule.load_state_dict({"dense": {}})
