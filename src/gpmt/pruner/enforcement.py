"""Pruned weights, and the optimiser's state of them, are kept exactly zero."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gpmt.core.shards import local, local_part
from gpmt.errors import MaskError
from gpmt.masks import Masks
from gpmt.pruner.optimizers import with_inner
from gpmt.torch_private import is_traceable_wrapper_subclass

CHUNK = 1 << 18
"""Weights to mask at a time on a CPU, so that PyTorch's temporary copies of their mask stay in the cache."""


class Enforcement:
    """Sets the weights that masks prune to zero, in the part of each tensor that this process holds.

    New masks are written over the old ones, which a captured CUDA graph may go on reading.
    """

    def __init__(self) -> None:
        self._masks: Masks | None = None
        # int8, in the shape of the local part of each weight: −1 (all bits) kept, 0 pruned.
        self._keep: dict[str, Tensor] = {}
        self._stale: set[str] = set()
        self._captured = False

    def set_masks(self, masks: Masks | None) -> None:
        """Take other masks, or none; the weights change with the next `zero_pruned`."""
        self._masks = masks
        for name in [name for name in self._keep if masks is None or name not in masks]:
            if self._captured:
                self._keep[name].fill_(-1)
            else:
                del self._keep[name]
        self._stale = set() if masks is None else set(masks)

    def zero_pruned(self, model: nn.Module, optimizers: Iterable[Optimizer]) -> None:
        """Set the pruned weights of the model, and the optimisers' state of them, to +0.0.

        Raises `MaskError` where a pruned parameter is gone from the model or has another shape, or where its state
        is of a class that cannot be changed in place.
        """
        optimizers = list(optimizers)
        for name in self._masks or ():
            weight = pruned_weight(model, name)
            keep = self._local_keep(name, weight)
            _zero_bits(local(weight), keep)
            for value in state_of(name, weight, optimizers):
                _zero_bits(local(value), keep)

    def zero_gradients(self, model: nn.Module) -> None:
        """Set the gradients of the pruned weights to +0.0."""
        for name in self._masks or ():
            weight = pruned_weight(model, name)
            if weight.grad is not None:
                _zero_bits(local(weight.grad), self._local_keep(name, weight))

    def _local_keep(self, name: str, weight: Tensor) -> Tensor:
        """Return the int8 mask of a weight's local part, made anew where the weight was moved or sharded."""
        assert self._masks is not None
        if weight.shape != self._masks.shape(name):
            raise MaskError(
                f"{name} has shape {list(weight.shape)}, but its mask has {list(self._masks.shape(name))}; "
                "detach() the Pruner before changing layers"
            )
        part, keep = local(weight), self._keep.get(name)
        moved = keep is None or (keep.shape, keep.device) != (part.shape, part.device)
        self._captured |= (now := capturing())
        if now and (moved or name in self._stale):
            raise MaskError(
                f"the mask of {name} is not on {part.device} yet, and cannot be copied there while a CUDA graph is "
                "captured; run one step before the capture"
            )
        if keep is None or moved:
            # In the memory format of the weight (such as channels last): equal strides are fastest.
            keep = self._keep[name] = torch.empty_like(part, dtype=torch.int8)
            self._stale.add(name)
        if name in self._stale:
            keep.copy_(local_part(self._masks[name], weight)).neg_()
            self._stale.remove(name)
        return keep


def capturing() -> bool:
    """Whether the current stream is recorded for a CUDA graph, so that nothing may wait for the device."""
    initialized: bool = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return initialized and torch.cuda.is_current_stream_capturing()


def pruned_weight(model: nn.Module, name: str) -> nn.Parameter:
    """Return a parameter that is pruned; raise `MaskError` where the model has it no longer."""
    try:
        return model.get_parameter(name)
    except AttributeError:
        raise MaskError(
            f"{name} is pruned, but is no longer a parameter of the model; detach() the Pruner before "
            "changing layers"
        ) from None


def check_state(weights: Mapping[str, Tensor], optimizers: Iterable[Optimizer]) -> None:
    """Raise `MaskError` where an optimiser keeps state of one of these weights that cannot be changed in place."""
    optimizers = list(optimizers)
    for name, weight in weights.items():
        for _ in state_of(name, weight, optimizers):
            pass


def state_of(name: str, weight: Tensor, optimizers: Iterable[Optimizer]) -> Iterator[Tensor]:
    """Yield the floating tensors of a weight's shape that optimisers keep; refuse those of quantised classes."""
    for optimizer in optimizers:
        for each in with_inner(optimizer):
            for value in each.state.get(weight, {}).values():
                if not isinstance(value, Tensor) or value.shape != weight.shape:
                    continue
                if is_traceable_wrapper_subclass(local(value)):
                    raise MaskError(
                        f"{type(optimizer).__name__} keeps its state of {name} as {type(local(value)).__name__}, in "
                        "which pruned weights cannot be set to zero; use an optimizer whose state is plain tensors"
                    )
                if value.is_floating_point():
                    yield value


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
