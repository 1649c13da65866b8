"""MobileNetV2 (Sandler et al. 2018, arXiv 1801.04381) with the strides for 32×32 images."""

import torch.nn.functional as F
from torch import Tensor, nn

BLOCKS = (
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Expansion, channels, repetitions, and the stride of the first repetition."""


class InvertedResidual(nn.Module):
    """Expand by a 1×1 convolution, filter each channel by itself, project back by another 1×1.

    Where the stride is 1 there is a shortcut; where the number of channels changes it is a 1×1 convolution,
    which can be pruned away like any other. So every stage can be cut off by pruning, and the network collapse.
    """

    def __init__(self, in_channels: int, channels: int, *, expansion: int, stride: int) -> None:
        super().__init__()
        hidden = expansion * in_channels
        self.conv1 = nn.Conv2d(in_channels, hidden, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.conv2 = nn.Conv2d(hidden, hidden, 3, stride=stride, padding=1, groups=hidden, bias=False)
        self.bn2 = nn.BatchNorm2d(hidden)
        self.conv3 = nn.Conv2d(hidden, channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.stride = stride
        self.shortcut = nn.Sequential()
        if stride == 1 and in_channels != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map [n, in_channels, h, w] to [n, channels, h / stride, w / stride]."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        projected: Tensor = self.bn3(self.conv3(out))
        return projected + self.shortcut(x) if self.stride == 1 else projected


class CifarMobileNetV2(nn.Module):
    """A 3×3 stem with stride 1, 17 inverted-residual blocks in 7 stages, a 1×1 convolution, a classifier.

    2,296,922 parameters for 3 channels and 10 classes. Tensors are named conv1, layers.0.conv1, ..., conv2,
    linear, as in the CIFAR networks in circulation.
    """

    def __init__(self, *, num_classes: int, input_shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(input_shape[0], 32, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        blocks, before = [], 32
        for expansion, channels, repetitions, first_stride in BLOCKS:
            for stride in (first_stride, *[1] * (repetitions - 1)):
                blocks.append(InvertedResidual(before, channels, expansion=expansion, stride=stride))
                before = channels
        self.layers = nn.Sequential(*blocks)
        self.conv2 = nn.Conv2d(before, 1280, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(1280)
        self.linear = nn.Linear(1280, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [n, channels, h, w] to logits [n, num_classes]."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(self.layers(x))))
        logits: Tensor = self.linear(x.mean(dim=(2, 3)))
        return logits
