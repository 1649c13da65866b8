"""The mean gradient of the loss over batches, one accumulator for each prunable tensor."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from gpmt.calibration.batches import Batch, Loss, calibrating, each_batch, loss_of, run
from gpmt.core.blocks.blocks import WHOLE
from gpmt.core.scope.scope import Scope
from gpmt.errors import CalibrationError, ScoresError
from gpmt.warning import warn

_LISTED = 3
"""Names in one message."""


def mean_gradients(
    network: nn.Module, scope: Scope, batches: Iterable[Any], loss: Loss | None
) -> dict[str, Tensor]:
    """Return the gradient of the loss, averaged over batches, for each prunable tensor of a network.

    Accumulated in float32, or float64 for float64 weights, on each weight's device. The gradients in the weights'
    `.grad` are not touched, and frozen weights are differentiated too. What does not reach the loss gets zeros.

    Raises `CalibrationError` as `each_batch`, `run` and `loss_of` do, and `ScoresError` for gradients that are NaN or
    infinite. Warns of tensors, and of blocks of tensors, whose gradient is zero.

    >>> from gpmt.core.scope.scope import find_scope
    >>> layer = nn.Linear(2, 1, bias=False)
    >>> batches = [torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]])]
    >>> mean_gradients(layer, find_scope(layer), batches, lambda output, batch: output.sum())
    {'weight': tensor([[2., 3.]])}
    """
    weights = scope.tensors
    sums = accumulators(weights)
    count = 0
    with calibrating(network, gradients=True), differentiated(weights):
        for batch in each_batch(network, batches):
            for total, gradient in zip(sums.values(), gradients(network, weights, batch, loss), strict=True):
                if gradient is not None:
                    total.add_(gradient)
            count += 1
    for total in sums.values():
        total.div_(count)
    check_gradients(sums, scope)
    return sums


def accumulators(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return zeros in the shape of each weight, float32 or float64, on its device."""
    return {
        name: torch.zeros_like(weight, dtype=wide(weight.dtype), requires_grad=False)
        for name, weight in weights.items()
    }


def wide(dtype: torch.dtype) -> torch.dtype:
    """Return float64 for float64, else float32."""
    return torch.promote_types(dtype, torch.float32)


def gradients(
    network: nn.Module, weights: Mapping[str, Tensor], batch: Batch, loss: Loss | None
) -> tuple[Tensor | None, ...]:
    """Return the gradient of one batch's loss for each weight, inside `calibrating` and `differentiated`."""
    value = loss_of(run(network, batch), batch, loss)
    if not value.requires_grad:
        raise CalibrationError(
            f"the loss of batch {batch.number} does not depend on any of the {len(weights)} prunable tensors; return "
            "it without detach() or torch.no_grad()"
        )
    return torch.autograd.grad(value, tuple(weights.values()), allow_unused=True)


@contextmanager
def differentiated(weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Let autograd see these weights, also frozen ones, inside the block."""
    for name, weight in weights.items():
        if weight.is_inference():
            raise ScoresError(
                f"{name} was made in torch.inference_mode(), so it has no gradient; make the network outside of it"
            )
    frozen = [weight for weight in weights.values() if not weight.requires_grad]
    try:
        for weight in frozen:
            weight.requires_grad_(True)
        yield
    finally:
        for weight in frozen:
            weight.requires_grad_(False)


def check_gradients(found: Mapping[str, Tensor], scope: Scope) -> None:
    """Raise `ScoresError` for what is NaN or infinite; warn of tensors, and of blocks, that are all zero."""
    for name, tensor in found.items():
        if not bool(torch.isfinite(tensor).all()):
            raise ScoresError(
                f"the gradient of {name} is NaN or infinite, so it cannot be scored; run the network in a dtype of a "
                "larger range (bfloat16, float32), or exclude the tensor"
            )
    warn_of_zeros("the loss of these batches does not depend on", found, scope, "give batches that need them")


def warn_of_zeros(reason: str, found: Mapping[str, Tensor], scope: Scope, remedy: str) -> None:
    """Warn of the blocks, and of whole tensors under their own names, whose scores are all zero."""
    zeros = []
    for name, tensor in found.items():
        blocks = scope.blocks.get(name, WHOLE)
        zero = [not bool(view.any()) for view in blocks.views(tensor)]
        zeros += [name] if all(zero) else list(itertools.compress(blocks.names(name), zero))
    if zeros:
        more = f" and {len(zeros) - _LISTED:,} more" if zeros[_LISTED:] else ""
        warn(
            f"{reason} {', '.join(zeros[:_LISTED])}{more}, so all scores there are 0 and they are pruned first; "
            f"{remedy}, exclude them, or set a minimum"
        )
