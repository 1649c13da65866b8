"""Pruned weights, and the optimiser's state of them, are kept exactly zero."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gpmt.core.shards import local, local_part
from gpmt.errors import MaskError
from gpmt.masks import Masks
from gpmt.pruner.optimizers import with_inner

CHUNK = 1 << 18
"""Weights to mask at a time on a CPU, so that PyTorch's temporary copies of their mask stay in the cache."""


class Enforcement:
    """Sets the weights that masks prune to zero, in the part of each tensor that this process holds."""

    def __init__(self, masks: Masks) -> None:
        self._masks = masks
        # int8, in the shape of the local part of each weight: −1 (all bits) kept, 0 pruned.
        self._keep: dict[str, Tensor] = {}

    def zero_pruned(self, model: nn.Module, optimizer: Optimizer) -> None:
        """Set the pruned weights of the model, and the optimiser's state of them, to +0.0.

        Raises `MaskError` where a pruned parameter is gone from the model or has another shape.
        """
        states = [each.state for each in with_inner(optimizer)]
        for name in self._masks:
            weight = pruned_weight(model, name)
            keep = self._local_keep(name, weight)
            _zero_bits(local(weight), keep)
            for value in (v for state in states for v in state.get(weight, {}).values()):
                if isinstance(value, Tensor) and value.shape == weight.shape and value.is_floating_point():
                    _zero_bits(local(value), keep)

    def _local_keep(self, name: str, weight: Tensor) -> Tensor:
        """Return the int8 mask of a weight's local part, made anew where the weight was moved or sharded."""
        if weight.shape != self._masks.shape(name):
            raise MaskError(
                f"{name} has shape {list(weight.shape)}, but its mask has {list(self._masks.shape(name))}; "
                "detach() the Pruner before changing layers"
            )
        part, keep = local(weight), self._keep.get(name)
        if keep is None or (keep.shape, keep.device) != (part.shape, part.device):
            # In the memory format of the weight (such as channels last): equal strides are fastest.
            keep = torch.empty_like(part, dtype=torch.int8)
            self._keep[name] = keep.copy_(local_part(self._masks[name], weight)).neg_()
        return keep


def pruned_weight(model: nn.Module, name: str) -> nn.Parameter:
    """Return a parameter that is pruned; raise `MaskError` where the model has it no longer."""
    try:
        return model.get_parameter(name)
    except AttributeError:
        raise MaskError(
            f"{name} is pruned, but is no longer a parameter of the model; detach() the Pruner before "
            "changing layers"
        ) from None


def _zero_bits(tensor: Tensor, keep: Tensor) -> None:
    """Set a floating tensor to +0.0 where `keep` is 0, in place, and leave it where `keep` is −1.

    As integers, because a product would leave NaN of infinity and −0.0 of negative numbers; and one "and" takes
    a fraction of the time of `masked_fill_` on a CPU.
    """
    integer = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()]
    bits, keep = tensor.detach().view(integer), keep.to(tensor.device)
    if not bits.is_cpu or bits.numel() <= CHUNK:
        bits.bitwise_and_(keep)
        return
    rows = max(1, CHUNK * len(bits) // bits.numel())
    for chunk, kept in zip(torch.split(bits, rows), torch.split(keep, rows), strict=True):
        chunk.bitwise_and_(kept)
