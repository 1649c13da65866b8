"""How tests check what a call of ATen is translated to."""

import torch
from tests.runtime.networks import Lambda, check, noise, scramble

from gpmt.runtime.frontend.capture import capture
from gpmt.runtime.ir.operators import Fallback

IMAGE = noise(2, 4, 7, 6)


def random_layer(make):
    """Return a layer with the same random weights every time."""
    torch.manual_seed(0)
    return scramble(make())


def check_image(function, expected):
    """Compare a function of an image with PyTorch, and its operators with the expected ones."""
    check(Lambda(function, m=noise(4, 1, 1), d=noise(1, 4, 1, 1) + 3), IMAGE, optimized=expected)


def check_fallback(make, shape, reason):
    """Check that a layer stays on PyTorch for this reason, and is right."""
    network = random_layer(make)
    check(network, noise(*shape))
    graph = capture(network, noise(*shape)).graph
    reasons = [operator.reason for operator in graph.operators if isinstance(operator, Fallback)]
    assert any(reason in other for other in reasons), reasons
