"""The threshold of a floor in its own tensor, for tensors that are copied and those that are searched."""

import numpy as np
import pytest
import torch

from gpmt.core.keys.key_reader import KeyReader
from gpmt.core.keys.keys import KEY32, SCORE32, MagnitudeKeys
from gpmt.core.selection import own_thresholds
from gpmt.core.selection.own_thresholds import own_thresholds as find


@pytest.mark.parametrize("small", [0, 1 << 16])
@pytest.mark.parametrize("key_format", [KEY32, SCORE32])
@pytest.mark.parametrize("layout", [lambda tensor: tensor, lambda tensor: tensor.reshape(4, -1).T])
def test_thresholds_of_floors(small, key_format, layout, monkeypatch):
    monkeypatch.setattr(own_thresholds, "SMALL", small)
    generator = torch.Generator().manual_seed(0)
    tensors = [layout(torch.randn(size, generator=generator)) for size in (40, 12_000, 8, 400)]
    sources = [MagnitudeKeys("w", tensor, key_format) for tensor in tensors]
    floors = np.array([1, 500, 8, 399])
    found = find(KeyReader(sources, key_format, 1), [0, 1, 2, 3], floors)
    for index, tensor in enumerate(tensors):
        ranked = (tensor.abs() if key_format is KEY32 else tensor).flatten().sort(descending=True).values
        value = ranked[floors[index] - 1]
        key = int(value.abs().view(torch.int32)) * (-1 if value < 0 else 1)
        assert found[index] == (key, int((ranked > value).sum()))
