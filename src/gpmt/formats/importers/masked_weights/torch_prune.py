"""Weights under ``torch.nn.utils.prune``, as PyTorch has stored them since 1.4, in Lightning's checkpoints too.

A pruned parameter `weight` is stored in two parts: the parameter ``weight_orig`` with its values from before, and
the buffer ``weight_mask`` of the same shape, 1 for kept; the layer computes their product. All methods of pruning
(unstructured, structured, global, custom) store this. Lightning's `ModelPruning` stores it where pruning was not
made permanent; where it was, the weights have their plain names, and only their zeros tell.
"""

from __future__ import annotations

from torch import Tensor

from gpmt.errors import CheckpointError
from gpmt.formats.checkpoint import Checkpoint
from gpmt.formats.importers.source import Source
from gpmt.formats.importers.stored_masks import OPTIMIZERS, prune_stored, read_mask, without

NAME = "torch.nn.utils.prune"

_ORIG, _MASK = "_orig", "_mask"
_LIGHTNING = "pytorch-lightning_version"


def recognises(source: Source) -> bool:
    """Tell whether any parameter is stored as ``NAME_orig`` with ``NAME_mask``.

    One without the other does not tell: spectral norm stores ``weight_orig`` too, and attention ``attn_mask``.
    """
    return bool(_pairs(source.checkpoint))


def read(source: Source) -> Checkpoint:
    """Return the weights under their plain names, pruned, with their masks.

    The container loses what optimisers knew, because it follows the parameters in an order that pruning changed.
    Parameters tied to each other stay tied.

    Raises `CheckpointError`, naming the tensor, for an original without a mask or a mask without an original,
    shapes that differ, values other than 0 and 1 in a mask, and tied parameters that are pruned differently.
    """
    checkpoint = source.checkpoint
    pairs = _pairs(checkpoint)
    _check_complete(checkpoint, pairs)
    path, stored = checkpoint.path, checkpoint.state_dict
    weights: dict[str, Tensor] = {}
    masks: dict[str, Tensor] = {}
    for name, tensor in stored.items():
        plain = name.removesuffix(_ORIG if name.endswith(_ORIG) else _MASK)
        if plain not in pairs:
            weights[name] = tensor
        elif plain not in weights:
            weights[plain] = stored[plain + _ORIG]
            masks[plain] = read_mask(path, plain + _MASK, stored[plain + _MASK], weights[plain])
    lightning = _LIGHTNING in (checkpoint.container or {})
    return prune_stored(
        checkpoint,
        weights,
        masks,
        source=f"Lightning with {NAME}" if lightning else NAME,
        by_module=True,
        container=without(checkpoint.container, *OPTIMIZERS),
    )


def _pairs(checkpoint: Checkpoint) -> set[str]:
    """Return the plain names of what is stored in two parts."""
    names = checkpoint.state_dict
    plain = (name.removesuffix(_ORIG) for name in names if name.endswith(_ORIG))
    return {name for name in plain if name + _MASK in names and name.rpartition(".")[2]}


def _check_complete(checkpoint: Checkpoint, pairs: set[str]) -> None:
    names = checkpoint.state_dict
    # What a parameter is called, so that other buffers may end as they like.
    parameters = {"weight", "bias", *(name.rpartition(".")[2] for name in pairs)}
    for name in names:
        for suffix, other in ((_ORIG, _MASK), (_MASK, _ORIG)):
            plain = name.removesuffix(suffix)
            if plain == name or plain.rpartition(".")[2] not in parameters:
                continue
            if plain in names:
                raise CheckpointError(
                    f"{checkpoint.path} holds both {plain} and {name}, which is a part of it; save the whole "
                    "state_dict again, without entries of another network"
                )
            spectral = plain + "_u" in names  # spectral norm stores weight_orig, weight_u and weight_v
            if plain not in pairs and not spectral:
                raise CheckpointError(
                    f"{checkpoint.path} holds {name} but no {plain + other}, and {NAME} needs both; save the "
                    "whole state_dict again"
                )
