"""Constant arrays of kernels: equal ones are stored once."""

import torch
from tests.runtime.execution.engines import engine_of
from tests.runtime.networks import noise
from torch import nn


def test_equal_arrays_are_stored_once():
    torch.manual_seed(0)
    part = nn.Conv2d(8, 8, 3, padding=1)
    once, _ = engine_of(nn.Sequential(part), noise(2, 8, 9, 10))
    twice, _ = engine_of(nn.Sequential(part, part), noise(2, 8, 9, 10))
    assert twice.weights.size == 2 * once.weights.size  # room for all
    assert twice.weights.addresses[1] == twice.weights.addresses[2]
