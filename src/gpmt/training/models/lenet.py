"""LeNet-5 as Caffe's MNIST example has it, the smallest network of the pruning literature."""

import torch.nn.functional as F
from torch import Tensor, nn


class LeNet5Caffe(nn.Module):
    """Two 5×5 convolutions (20, 50 channels) and two linear layers (500, classes).

    For 28×28 images with one channel and 10 classes it has 431,080 parameters. The first convolution
    and both poolings must leave at least one pixel, so images are at least 16×16.
    """

    def __init__(self, *, num_classes: int, input_shape: tuple[int, int, int]) -> None:
        super().__init__()
        channels, height, width = input_shape
        if min(height, width) < 16:
            raise ValueError(f"images are {height}×{width}, but LeNet-5-Caffe needs at least 16×16")
        self.conv1 = nn.Conv2d(channels, 20, 5)
        self.conv2 = nn.Conv2d(20, 50, 5)
        pixels = (((height - 4) // 2 - 4) // 2) * (((width - 4) // 2 - 4) // 2)
        self.fc1 = nn.Linear(50 * pixels, 500)
        self.fc2 = nn.Linear(500, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [n, channels, h, w] to logits [n, num_classes]."""
        x = F.max_pool2d(self.conv1(x), 2)
        x = F.max_pool2d(self.conv2(x), 2)
        x = F.relu(self.fc1(x.flatten(1)))
        logits: Tensor = self.fc2(x)
        return logits
