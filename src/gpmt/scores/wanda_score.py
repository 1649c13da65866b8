"""Wanda scores: magnitude times the norm of the input."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from gpmt.calibration.layer_inputs import survey_scope
from gpmt.core.patterns import Patterns


def wanda(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    scope: Patterns | None = None,
    exclude: Patterns | None = (),
) -> dict[str, Tensor]:
    """Score every weight by |w_ij| · ‖x_j‖₂, with x_j all values that its input takes on the batches.

    From Sun et al. 2024 (arXiv 2306.11695, equation 1), who compare the weights of one output with one another:
    prune with ``within="row"``. The norms of different layers have different scales, so a ranking of the whole
    network by these scores says little.

    The input of a weight of a convolution is its channel, moved by its tap, at all positions of the output. The norm
    is over samples and positions; padding tokens count like any others, whatever the attention mask says, so give
    sequences without them. Of the network, which runs once on each batch in evaluation mode, nothing changes, and
    only one number for each input is kept.

    Args:
        model: the network, also inside wrappers such as `DistributedDataParallel`. Layers are seen in whatever code
            multiplies inputs with them: linear, convolutional, attention, recurrent layers, stacks of experts.
        batches: a data loader or list. A batch is a tensor, a tuple (inputs, target), or a mapping of arguments by
            name; targets are not used.
        scope: patterns that choose the tensors, as in `gpmt.find_scope`.
        exclude: patterns of tensors to leave out.

    Returns:
        name -> scores in the shape of the weight, float32 (float64 for float64 weights), on its device.

    Raises:
        CalibrationError: no batches, a batch that the network does not run on, a layer that did not run or whose
            inputs cannot be seen, or inputs that are not finite.
        ScoresError: not a network.
        ScopeError, WeightsError: as from `gpmt.find_scope`; weights without data.

    Warns (`GpmtWarning`) of weights without inputs, such as experts that got no tokens; their scores are zero.

    >>> import torch
    >>> layer = nn.Linear(2, 1, bias=False)
    >>> _ = layer.weight.data.copy_(torch.tensor([[3.0, -1.0]]))
    >>> wanda(layer, [torch.tensor([[1.0, 3.0], [0.0, 4.0]])])
    {'weight': tensor([[3., 5.]])}
    """
    found, layers = survey_scope(model, batches, scope, exclude)
    return {
        name: (layers[name].norms(weight) * weight.detach().abs()).contiguous()
        for name, weight in found.tensors.items()
    }
