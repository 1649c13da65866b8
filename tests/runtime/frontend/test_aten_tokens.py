"""Lookups of tokens, and constants that are added to tokens or concatenated with them."""

import pytest
import torch
from tests.runtime.networks import Lambda, check, noise
from torch.nn import functional as F


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
def test_lookups(dtype):
    network = Lambda(lambda s, ids: F.embedding(ids, s.table), table=noise(7, 4))
    check(network, torch.tensor([[1, 6, 0], [3, 3, 2]], dtype=dtype), captured={"Embedding": 1})
    check(network, torch.tensor([1, 6], dtype=dtype), captured={"Embedding": 1})


def test_indices_that_are_computed_stay_on_pytorch():
    network = Lambda(lambda s, ids: F.embedding(ids + 1, s.table), table=noise(7, 4))
    check(network, torch.tensor([[1, 5]]), captured={"add": 1, "embedding": 1})


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda s, x: x + s.positions, {"PlaceTokens": 1}),
        (lambda s, x: s.positions[None] + x, {"PlaceTokens": 1}),
        (lambda s, x: x + s.positions.expand(2, 5, 6), {"PlaceTokens": 1}),
        (lambda s, x: x + s.positions[:, :1], {"PlaceTokens": 1}),
        (lambda s, x: x + s.positions[0], {"Affine": 1}),
        (lambda s, x: x + torch.stack([s.positions, -s.positions]), {"add": 1}),
        (lambda s, x: torch.cat([s.token.expand(2, -1, -1), x], 1), {"PlaceTokens": 1}),
        (lambda s, x: torch.cat([x, s.token.expand(2, -1, -1), s.token.expand(2, -1, -1)], 1), {"PlaceTokens": 1}),
        (lambda s, x: torch.cat([torch.cat([s.token, -s.token]), x], 1), {"cat": 1}),
        (lambda s, x: torch.cat([x, x], 2), {"Concat": 1}),
    ],
)  # fmt: skip
def test_constants(function, expected):
    network = Lambda(function, positions=noise(5, 6), token=noise(1, 1, 6))
    check(network, noise(2, 5, 6), captured=expected)
