"""Small networks of a few layers, from functions of them and an image."""

import torch
from tests.runtime.networks import Lambda, check, noise, scramble
from torch import nn

IMAGE = noise(2, 4, 6, 6)


def check_pattern(function, expected):
    """Compare a function of the layers and an image with PyTorch, and its operators with the expected ones."""
    torch.manual_seed(0)
    layers = {
        "one": nn.Conv2d(4, 4, 3, padding=1),
        "two": nn.Conv2d(4, 4, 1),
        "pointwise": nn.Conv2d(4, 3, 1, 2),
        "norm": nn.BatchNorm2d(4),
        "linear": nn.Linear(4, 5),
        "vectors": nn.BatchNorm1d(5),
    }
    return check(scramble(Lambda(function, **layers)), IMAGE, optimized=expected)
