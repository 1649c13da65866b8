"""The mean over samples of the squared gradient of the loss: per-sample gradients, never the gradient of a batch."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from gpmt.calibration.batches import (
    Batch,
    Loss,
    calibrating,
    differentiable_loss,
    each_batch,
    read_batch,
)
from gpmt.calibration.gradients import accumulators, check_gradients, differentiated, gradients
from gpmt.core.scope.scope import Scope
from gpmt.errors import CalibrationError
from gpmt.torch_private import tree_leaves, tree_map_only

_AT_ONCE = 1 << 25
"""Gradients that are held at once, 128 MiB in float32; a network of more than half as many goes sample by sample."""


def mean_squared_gradients(
    network: nn.Module, scope: Scope, batches: Iterable[Any], loss: Loss | None
) -> dict[str, Tensor]:
    """Return mean over samples of (∂ loss of the sample / ∂ w)² for each prunable tensor of a network.

    The batches are divided along the first dimension of their tensors, and the loss of a sample is that of a batch of
    one. Small networks are differentiated for several samples at once (`torch.func`), where they allow it; all
    others one sample after another. Dtypes, devices, errors and warnings are those of `mean_gradients`.

    Raises `CalibrationError` also where the tensors of a batch differ in their first dimension.
    """
    weights = scope.tensors
    sums = accumulators(weights)
    count = 0
    together = _AT_ONCE // max(1, scope.numel)
    with calibrating(network, gradients=True), differentiated(weights):
        twin = _twin(network) if together > 1 else None
        for batch in each_batch(network, batches):
            samples = _count(batch)
            count += samples
            start = 0
            while start < samples:
                if twin is not None:
                    if _add_together(twin, weights, _part(batch, start, start + together), loss, sums):
                        start += together
                        continue
                    twin = None  # the network does not allow it, so it is not tried again
                found = gradients(network, weights, _part(batch, start, start + 1), loss)
                for total, gradient in zip(sums.values(), found, strict=True):
                    if gradient is not None:
                        total.add_(gradient.to(total.dtype).square_())
                start += 1
    for total in sums.values():
        total.div_(count)
    check_gradients(sums, scope)
    return sums


def _twin(network: nn.Module) -> nn.Module | None:
    """Return other modules with the same tensors, so that nothing of a transform stays in the network's own.

    None for a network that cannot be copied.
    """
    tensors = (*network.parameters(), *network.buffers())
    try:
        return copy.deepcopy(network, {id(tensor): tensor for tensor in tensors})
    except Exception:  # the network is anyone's code
        return None


def _count(batch: Batch) -> int:
    """Return the number of samples in a batch."""
    sizes = {len(tensor) for tensor in _tensors(batch.content)}
    if len(sizes) != 1 or 0 in sizes:
        shapes = ", ".join(str(list(tensor.shape)) for tensor in _tensors(batch.content))
        shapes = f"the shapes {shapes}" if shapes else "no shapes"
        raise CalibrationError(
            f"batch {batch.number} cannot be divided into samples, since its tensors have {shapes}; their "
            "first dimension must be that of the samples"
        )
    return sizes.pop()


def _tensors(content: Any) -> Iterator[Tensor]:
    for leaf in tree_leaves(content):
        if isinstance(leaf, Tensor) and leaf.ndim:
            yield leaf


def _part(batch: Batch, start: int, end: int) -> Batch:
    """Return the samples of a batch from `start` to `end`."""
    content = tree_map_only(
        Tensor, lambda tensor: tensor[start:end] if tensor.ndim else tensor, batch.content
    )
    return read_batch(batch.number, content)


def _add_together(
    twin: nn.Module,
    weights: Mapping[str, Tensor],
    batch: Batch,
    loss: Loss | None,
    sums: Mapping[str, Tensor],
) -> bool:
    """Add the squared gradients of all samples of a batch; False, with nothing added, where that does not work."""
    tensors = list(_tensors(batch.content))

    def loss_of_one(parameters: dict[str, Tensor], leaves: list[Tensor]) -> Tensor:
        rest = iter(leaves)
        content = tree_map_only(
            Tensor, lambda tensor: next(rest).unsqueeze(0) if tensor.ndim else tensor, batch.content
        )
        one = read_batch(batch.number, content)
        output = functional_call(twin, parameters, one.args, one.kwargs)
        return differentiable_loss(output, one, loss)

    try:
        with warnings.catch_warnings(), torch.no_grad():  # the transform differentiates all the same
            warnings.simplefilter("ignore")  # of operators that have no rule for several samples
            plain = {name: weight.detach() for name, weight in weights.items()}
            found, losses = vmap(grad_and_value(loss_of_one), in_dims=(None, 0))(plain, tensors)
    except (
        Exception
    ):  # the network is anyone's code; one sample after another tells what is wrong, if anything is
        return False
    if not bool(torch.isfinite(losses).all()):
        return False
    for name, total in sums.items():
        total.add_(found[name].to(total.dtype).square_().sum(0))
    return True
