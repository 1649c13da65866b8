"""SNIP: connection sensitivity at initialisation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from gpmt.calibration.batches import Loss
from gpmt.calibration.gradients import mean_gradients
from gpmt.calibration.prunable import prunable
from gpmt.core.layers.layers import BATCH_NORMS
from gpmt.core.patterns import Patterns


def snip(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    loss: Loss | None = None,
    scope: Patterns | None = None,
    exclude: Patterns | None = (),
) -> dict[str, Tensor]:
    """Score every weight of a network that is not trained yet by |w · g| / Σ |w · g|, the sum over all weights.

    From Lee et al. 2019 (arXiv 1810.02340, section 4.1), where g comes from one batch, of about ten samples a
    class. It is `taylor` at another time and with two differences. The scores are divided by their sum, which
    changes no ranking. And batch norms use the statistics of the batch, as in training, because the running ones
    are not those of the data yet; they do not change. Dropout is off.

    Arguments, result, errors and warnings are those of `gpmt.scores.taylor`.

    >>> import torch
    >>> layer = nn.Linear(2, 1, bias=False)
    >>> _ = layer.weight.data.copy_(torch.tensor([[3.0, -1.0]]))
    >>> snip(layer, [torch.tensor([[1.0, 1.0]])], loss=lambda output, batch: output.sum())
    {'weight': tensor([[0.7500, 0.2500]])}
    """
    network, found = prunable(model, scope, exclude)
    with _batch_statistics(network):
        scores = mean_gradients(network, found, batches, loss)
    for name, score in scores.items():
        score.mul_(found.tensors[name].detach()).abs_()
    total = sum(float(score.sum(dtype=torch.float64)) for score in scores.values())
    for score in scores.values():
        score.div_(total or 1.0)
    return scores


@contextmanager
def _batch_statistics(network: nn.Module) -> Iterator[None]:
    """Let batch norms use the statistics of the batch, in evaluation mode too, and change none."""
    norms = [layer for layer in network.modules() if isinstance(layer, BATCH_NORMS)]
    running = [(layer.running_mean, layer.running_var) for layer in norms]
    try:
        for layer in norms:
            layer.running_mean = layer.running_var = None
        yield
    finally:
        for layer, (mean, variance) in zip(norms, running, strict=True):
            layer.running_mean, layer.running_var = mean, variance
