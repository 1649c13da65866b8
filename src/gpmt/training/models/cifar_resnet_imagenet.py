"""ImageNet's residual networks (He et al. 2015, arXiv 1512.03385, table 1) with a stem for 32×32 images."""

import torch.nn.functional as F
from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut; where the shape changes, that is a 1×1 convolution (option B)."""

    expansion = 1

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = _shortcut(in_channels, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map [n, in_channels, h, w] to [n, channels, h / stride, w / stride]."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + self.shortcut(x))


class Bottleneck(nn.Module):
    """1×1, 3×3 (with the stride) and 1×1 convolutions to four times the channels, and a shortcut (option B)."""

    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        out_channels = self.expansion * channels
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.shortcut = _shortcut(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map [n, in_channels, h, w] to [n, 4 · channels, h / stride, w / stride]."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return F.relu(out + self.shortcut(x))


STAGES: dict[int, tuple[type[BasicBlock | Bottleneck], tuple[int, ...]]] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
    152: (Bottleneck, (3, 8, 36, 3)),
}
"""Depth -> the block, and how many of them each stage has."""


class CifarImageNetResNet(nn.Module):
    """ResNet-18 to -152 with four stages of 64 to 512 channels behind a 3×3 stem, without its pooling.

    For 3 channels and 10 classes ResNet-18 has 11,173,962 parameters, ResNet-50 23,520,842. Tensors are named
    conv1, bn1, layer1.0.conv1, layer2.0.shortcut.0, ..., linear, as in the CIFAR networks in circulation.
    """

    def __init__(self, depth: int, *, num_classes: int, input_shape: tuple[int, ...]) -> None:
        super().__init__()
        block, repetitions = STAGES[depth]
        self.conv1 = nn.Conv2d(input_shape[0], 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        out = [block.expansion * channels for channels in (64, 128, 256, 512)]
        self.layer1 = _stage(block, 64, 64, repetitions[0], stride=1)
        self.layer2 = _stage(block, out[0], 128, repetitions[1], stride=2)
        self.layer3 = _stage(block, out[1], 256, repetitions[2], stride=2)
        self.layer4 = _stage(block, out[2], 512, repetitions[3], stride=2)
        self.linear = nn.Linear(out[3], num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Map images [n, channels, h, w] to logits [n, num_classes]."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        logits: Tensor = self.linear(x.mean(dim=(2, 3)))
        return logits


def _shortcut(in_channels: int, channels: int, stride: int) -> nn.Sequential:
    if stride == 1 and in_channels == channels:
        return nn.Sequential()
    convolution = nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels))


def _stage(
    block: type[BasicBlock | Bottleneck], in_channels: int, channels: int, blocks: int, *, stride: int
) -> nn.Sequential:
    rest = (block(block.expansion * channels, channels, 1) for _ in range(blocks - 1))
    return nn.Sequential(block(in_channels, channels, stride), *rest)
