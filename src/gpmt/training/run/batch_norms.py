"""Batch norms of a pruned network, recalibrated on training images."""

from torch import nn

from gpmt.arithmetic import ceil_div
from gpmt.recalibration import recalibrate
from gpmt.training.data.source import Source

MOST = 128
"""Images in a batch, at most."""


def recalibrate_on(network: nn.Module, source: Source, images: int) -> int:
    """Measure the statistics of batch norms on so many training images, or all there are; return how many.

    They come in nearly equal batches, which all count alike. 0 where there is nothing to measure.
    """
    images = min(images, source.train_size)
    if not images:
        return 0
    size = ceil_div(images, ceil_div(images, MOST))
    layers = recalibrate(network, source.plain_batches(size, images=images))
    return images if layers else 0
