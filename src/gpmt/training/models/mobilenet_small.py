"""A small variant of MobileNetV2 (Sandler et al. 2018, arXiv 1801.04381), for 8×8 digits."""

import torch.nn.functional as F
from torch import Tensor, nn

STEM = 16
EXPANSION = 4
BLOCKS = ((24, 2), (32, 1), (32, 1), (48, 1), (64, 1))  # channels and stride of each block


class InvertedResidual(nn.Module):
    """Expand by a 1×1 convolution, filter each channel by itself, project back by another 1×1.

    Where input and output have the same shape, the input is added to the output (Sandler et al., section 3.3).
    Elsewhere the three convolutions are the only path: if one of them is pruned away, the network is dead.
    """

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        hidden = EXPANSION * in_channels
        self.expand = nn.Conv2d(in_channels, hidden, 1, bias=False)
        self.expand_bn = nn.BatchNorm2d(hidden)
        self.depthwise = nn.Conv2d(hidden, hidden, 3, stride=stride, padding=1, groups=hidden, bias=False)
        self.depthwise_bn = nn.BatchNorm2d(hidden)
        self.project = nn.Conv2d(hidden, channels, 1, bias=False)
        self.project_bn = nn.BatchNorm2d(channels)
        self.has_shortcut = stride == 1 and in_channels == channels

    def forward(self, x: Tensor) -> Tensor:
        """Map [n, in_channels, h, w] to [n, channels, h / stride, w / stride]."""
        hidden = F.relu6(self.expand_bn(self.expand(x)))
        hidden = F.relu6(self.depthwise_bn(self.depthwise(hidden)))
        out: Tensor = self.project_bn(self.project(hidden))
        return x + out if self.has_shortcut else out


class MobileNetSmall(nn.Module):
    """A 3×3 stem, five inverted-residual blocks, of which one (the third) has a shortcut, and a classifier."""

    def __init__(self, *, num_classes: int = 10, input_shape: tuple[int, int, int] = (1, 8, 8)) -> None:
        super().__init__()
        self.stem = nn.Conv2d(input_shape[0], STEM, 3, padding=1, bias=False)
        self.stem_bn = nn.BatchNorm2d(STEM)
        widths = [STEM, *(channels for channels, _ in BLOCKS)]
        self.blocks = nn.Sequential(
            *(
                InvertedResidual(before, channels, stride)
                for before, (channels, stride) in zip(widths, BLOCKS, strict=False)
            )
        )
        self.classifier = nn.Linear(widths[-1], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [n, channels, h, w] to logits [n, num_classes]."""
        x = F.relu6(self.stem_bn(self.stem(x)))
        logits: Tensor = self.classifier(self.blocks(x).mean(dim=(2, 3)))
        return logits
