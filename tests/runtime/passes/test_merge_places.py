"""Constants that are added to tokens one after the other become one."""

import torch
from tests.runtime.networks import Lambda, check, noise
from torch import nn


def test_class_token_and_positions():
    def function(s, x):
        y = torch.cat([s.token.expand(2, -1, -1), s.linear(x)], 1) + s.positions
        return s.linear(y + s.more)

    torch.manual_seed(0)
    parts = {"token": noise(1, 1, 6), "positions": noise(1, 5, 6), "more": noise(5, 6, seed=1)}
    network = Lambda(function, linear=nn.Linear(6, 6), **parts)
    check(
        network,
        noise(2, 4, 6),
        captured={"Linear": 2, "PlaceTokens": 3},
        optimized={"Linear": 2, "PlaceTokens": 1},
    )


def test_tokens_that_others_read_are_placed_twice():
    def function(s, x):
        y = s.linear(x) + s.positions
        return y.relu(), y + s.positions

    torch.manual_seed(0)
    network = Lambda(function, linear=nn.Linear(6, 6), positions=noise(4, 6))
    check(network, noise(2, 4, 6), optimized={"Linear": 1, "PlaceTokens": 2, "Affine": 1})
