"""Networks for the tests of the core and of plans."""

from collections import OrderedDict

import torch
from torch import nn

from gpmt.core.scope.scope import find_scope


class Net(nn.Module):
    """Two convolutions with norms, an embedding, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(10, 6)
        self.body = nn.Sequential(
            OrderedDict(
                conv1=nn.Conv2d(3, 4, 3),
                bn1=nn.BatchNorm2d(4),
                conv2=nn.Conv2d(4, 6, 3),
                ln=nn.LayerNorm([6, 5]),
            )
        )
        self.head = nn.Linear(6, 2)
        self.mixing = nn.Parameter(torch.ones(3, 3))
        self.gain = nn.Parameter(torch.ones(3))


DEFAULT = ["body.conv1.weight", "body.conv2.weight", "head.weight"]


def names(target, **keywords):
    return list(find_scope(target, **keywords).tensors)


def small_network() -> nn.Module:
    """Return a convolution of 216 weights and a linear layer of 320, with a norm in between."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(32, 10))
