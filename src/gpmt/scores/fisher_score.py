"""Scores by the diagonal of the empirical Fisher information: how much the loss grows, to second order."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from gpmt.calibration.batches import Loss
from gpmt.calibration.prunable import prunable
from gpmt.calibration.squared_gradients import mean_squared_gradients
from gpmt.core.patterns import Patterns


def fisher(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    loss: Loss | None = None,
    scope: Patterns | None = None,
    exclude: Patterns | None = (),
) -> dict[str, Tensor]:
    """Score every weight by w² · F / 2, with F the mean over samples of the squared gradient of the sample's loss.

    In Optimal Brain Damage (LeCun et al. 1990) the diagonal of the Hessian takes the place of F, which approximates
    it near a minimum (Theis et al. 2018, arXiv 1801.05787). It is the *empirical* Fisher information: the targets
    are those of the data. The gradient of every sample is squared on its own, since the square of a batch's mean
    gradient is another quantity, which vanishes in a trained network.

    A batch is divided along the first dimension of its tensors, and a sample's loss is that of a batch of one. Small
    networks are differentiated for several samples at once; otherwise every sample takes a pass of its own, and some
    hundreds of samples are usually enough.

    Arguments, result, errors and warnings are those of `gpmt.scores.taylor`. `CalibrationError` is also raised where
    the tensors of a batch differ in their first dimension.

    >>> import torch
    >>> layer = nn.Linear(2, 1, bias=False)
    >>> _ = layer.weight.data.copy_(torch.tensor([[3.0, -1.0]]))
    >>> fisher(layer, [torch.tensor([[1.0, 4.0], [-1.0, 0.0]])], loss=lambda output, batch: output.mean())
    {'weight': tensor([[4.5000, 4.0000]])}
    """
    network, found = prunable(model, scope, exclude)
    scores = mean_squared_gradients(network, found, batches, loss)
    for name, score in scores.items():
        weight = found.tensors[name].detach()
        score.mul_(weight).mul_(weight).mul_(0.5)
    return scores
