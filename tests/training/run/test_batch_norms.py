import torch
from torch import nn

from gpmt.training.data import datasets
from gpmt.training.run.batch_norms import recalibrate_on


def test_batches_are_nearly_equal_and_all_images_are_seen_once():
    source = datasets.load("digits", root=None, train_limit=257)
    sizes = []

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(1)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            sizes.append(len(images))
            return self.norm(images)

    assert recalibrate_on(Network(), source, 1000) == 257
    assert sizes == [86, 86, 85]
    assert recalibrate_on(nn.Flatten(), source, 1000) == 0
    assert recalibrate_on(Network(), source, 0) == 0
