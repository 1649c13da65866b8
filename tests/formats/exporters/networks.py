"""Small networks for the tests of exporters, and what they share."""

import torch
from torch import Tensor, nn

import gpmt
from gpmt.core.scope.scope import find_scope


class Small(nn.Module):
    """A convolution with batch norm, and linear layers before and after the pixels are averaged."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.mix = nn.Linear(8, 8)  # on three dimensions, for which exporters transpose the weight
        self.auxiliary = nn.Linear(8, 2)
        self.head = nn.Linear(8, 4)
        self.drop = nn.Dropout(0.5)

    def forward(self, images: Tensor) -> Tensor:
        features = self.norm(self.conv(images)).relu()
        if self.training:
            self.auxiliary(features.mean((2, 3)))
        pixels = self.drop(self.mix(features.flatten(2).transpose(1, 2)))
        return self.head(pixels.mean(1))


def pruned(module: nn.Module, *, sparsity: float = 0.7, see: Tensor | None = None) -> nn.Module:
    """The module, each tensor as sparse as the other, in training mode; its batch norms have seen the batch `see`."""
    gpmt.prune_(module, sparsity=sparsity, min_kept=3, allocation="uniform")
    module.train()
    if see is not None:
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.momentum = None  # the mean of what it sees
        module(see)
    return module


def small() -> nn.Module:
    """A pruned `Small`, the same every time."""
    torch.manual_seed(0)
    return pruned(Small(), see=torch.randn(4, 3, 6, 6))


def zero_counts(module: nn.Module) -> dict[str, int]:
    """Zeros of the prunable tensors, by name."""
    return {name: int((tensor == 0).sum()) for name, tensor in find_scope(module).tensors.items()}
