"""Wide residual networks (Zagoruyko & Komodakis 2016, arXiv 1605.07146)."""

import torch.nn.functional as F
from torch import Tensor, nn

DROPOUT = 0.3  # what the paper uses on CIFAR (section 2.4)


class WideBlock(nn.Module):
    """Two 3×3 convolutions behind norm and ReLU, dropout between them, and a shortcut.

    Where the shape changes, the shortcut is a 1×1 convolution of the normalised input.
    """

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.dropout = nn.Dropout(DROPOUT)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_channels != channels:
            self.shortcut = nn.Sequential(nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """Map [n, in_channels, h, w] to [n, channels, h / stride, w / stride]."""
        active = F.relu(self.bn1(x))
        out = self.dropout(F.relu(self.bn2(self.conv1(active))))
        residual: Tensor = self.conv2(out)
        return residual + (self.shortcut(active) if len(self.shortcut) else x)


class WideResNet(nn.Module):
    """WRN-d-k: depth d = 6n + 4, three stages of n blocks with 16k, 32k and 64k channels.

    Tensors are named conv1, layer1.0.bn1, layer1.0.shortcut.0, ..., bn1, linear, as CIFAR networks in
    circulation are. For 3 channels and 10 classes WRN-28-10 has 36,479,194 parameters.

    Raises ValueError for a depth or width that makes no network.
    """

    def __init__(self, depth: int, width: int, *, num_classes: int, input_shape: tuple[int, ...]) -> None:
        super().__init__()
        check_size(depth, width)
        blocks = (depth - 4) // 6
        self.conv1 = nn.Conv2d(input_shape[0], 16, 3, padding=1, bias=False)
        self.layer1 = _stage(16, 16 * width, blocks, stride=1)
        self.layer2 = _stage(16 * width, 32 * width, blocks, stride=2)
        self.layer3 = _stage(32 * width, 64 * width, blocks, stride=2)
        self.bn1 = nn.BatchNorm2d(64 * width)
        self.linear = nn.Linear(64 * width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [n, channels, h, w] to logits [n, num_classes]."""
        x = self.layer3(self.layer2(self.layer1(self.conv1(x))))
        logits: Tensor = self.linear(F.relu(self.bn1(x)).mean(dim=(2, 3)))
        return logits


def check_size(depth: int, width: int) -> None:
    """Raise ValueError unless depth is 6n + 4 and width at least 1."""
    if depth < 10 or depth % 6 != 4:
        raise ValueError(f"depth is {depth}, but must be 6n + 4, such as 16, 22 or 28")
    if width < 1:
        raise ValueError(f"width is {width}, but must be at least 1, such as 8")


def _stage(in_channels: int, channels: int, blocks: int, *, stride: int) -> nn.Sequential:
    first = WideBlock(in_channels, channels, stride)
    return nn.Sequential(first, *(WideBlock(channels, channels, 1) for _ in range(blocks - 1)))
