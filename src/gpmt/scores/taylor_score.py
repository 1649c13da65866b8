"""First-order Taylor scores: how much the loss changes, to first order, when a weight becomes zero."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from gpmt.calibration.batches import Loss
from gpmt.calibration.gradients import mean_gradients
from gpmt.calibration.prunable import prunable
from gpmt.core.patterns import Patterns


def taylor(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    loss: Loss | None = None,
    scope: Patterns | None = None,
    exclude: Patterns | None = (),
) -> dict[str, Tensor]:
    """Score every weight by |w · g|, with g the gradient of the loss averaged over the batches.

    From Molchanov et al. 2017 (arXiv 1611.06440, equation 7) and 2019 (arXiv 1906.10771, equation 8, whose square
    ranks alike). The absolute value is taken of the mean, not the mean of absolute values. A trained network has
    small gradients, so many batches are needed; `fisher` does not have this weakness.

    The network runs in evaluation mode, and nothing of it changes: parameters, their `.grad`, running statistics,
    modes, random states. Frozen weights are scored too. A weight that weight_norm or spectral_norm computes is
    scored by its direction, the tensor that is pruned. Besides what a pass of the network needs, one sum and one
    gradient of each weight are in memory.

    Args:
        model: the network, also inside wrappers such as `DistributedDataParallel`.
        batches: a data loader or list. A batch is a tensor, a tuple (inputs, target), or a mapping of arguments by
            name, as data sets of Hugging Face give it; it moves to the network's device.
        loss: of the output and the target (of the output and the batch, where it has no target). By default the
            output's own `loss`, or else the cross entropy with the target.
        scope: patterns that choose the tensors, as in `gpmt.find_scope`.
        exclude: patterns of tensors to leave out.

    Returns:
        name -> scores in the shape of the weight, float32 (float64 for float64 weights), on its device.

    Raises:
        CalibrationError: no batches, a batch that the network does not run on, or no usable loss.
        ScoresError: not a network, or gradients that are NaN or infinite.
        ScopeError, WeightsError: as from `gpmt.find_scope`; weights without data.

    Warns (`GpmtWarning`) of tensors that the loss does not depend on; their scores are zero.

    >>> import torch
    >>> layer = nn.Linear(2, 1, bias=False)
    >>> _ = layer.weight.data.copy_(torch.tensor([[3.0, -1.0]]))
    >>> taylor(layer, [torch.tensor([[1.0, 4.0]])], loss=lambda output, batch: output.sum())
    {'weight': tensor([[3., 4.]])}
    """
    network, found = prunable(model, scope, exclude)
    scores = mean_gradients(network, found, batches, loss)
    for name, score in scores.items():
        score.mul_(found.tensors[name].detach()).abs_()
    return scores
