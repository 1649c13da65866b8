"""Networks saved by fastai while fasterai's sparsifier was at work on them.

What is read: files of `SaveModelCallback` and of ``learn.save(with_opt=False)``, as fasterai 0.2 to 0.4 fill them;
with the optimiser they need a class of fastcore, and are refused. Until training ends, fasterai's `Sparsifier` keeps
buffers in every module with a weight: ``_init_weights`` and ``_init_biases``, to go back to, and, in the layers that
are pruned, ``_mask``, 1 for kept. Weights are multiplied by their masks in place. A mask has the dimensions of its
weight, with 1 where a whole filter, row, ... is pruned at once; filters take their biases along, as literal zeros.
When training ends the buffers go, and only the zeros tell. Its `Pruner` makes tensors smaller and needs no importer;
files of ``learn.export`` and ``save_model`` are pickles of a whole network, which are not read.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from gpmt.errors import CheckpointError
from gpmt.formats.checkpoint import Checkpoint
from gpmt.formats.importers.source import Source
from gpmt.formats.importers.stored_masks import check_plain, prune_stored, read_mask

NAME = "fasterai"

ASKED_LAST = True
"""The buffers of its sparsifier can also be in a network whose masks NNCF or torch.nn.utils.prune stored."""

_INITIAL, _MASK = "_init_weights", "_mask"
_BUFFERS = {_INITIAL, "_init_biases", "_old_weights", _MASK}
_PARAMETRIZED = "parametrizations.weight.original"


def recognises(source: Source) -> bool:
    """Tell whether a weight has its initial values beside it, in the sparsifier's buffer."""
    names = source.checkpoint.state_dict
    return any(
        layer + "weight" in names or layer + _PARAMETRIZED in names
        for name in names
        for layer, buffer in [_split(name)]
        if buffer == _INITIAL
    )


def read(source: Source) -> Checkpoint:
    """Return the network without the sparsifier's buffers, and its masks in the shapes of the weights.

    Raises `CheckpointError`, naming the tensor, for a mask without a weight, of a shape that does not fit, or with
    values other than 0 and 1, and for a network that fasterai also quantises.
    """
    checkpoint = source.checkpoint
    path, stored = checkpoint.path, checkpoint.state_dict
    layers = {layer for layer, buffer in map(_split, stored) if buffer == _INITIAL}
    weights: dict[str, Tensor] = {}
    masks: dict[str, Tensor] = {}
    for name, tensor in stored.items():
        layer, buffer = _split(name)
        if layer + _PARAMETRIZED in stored:
            raise CheckpointError(
                f"{path} holds {layer + _PARAMETRIZED}, a reparametrised weight, as quantisation in training makes "
                "it; save the network without"
            )
        if layer not in layers or buffer not in _BUFFERS:
            weights[name] = tensor
        elif buffer == _MASK:
            if layer + "weight" not in stored:
                raise CheckpointError(
                    f"{path} holds {name} but no {layer}weight; save the network again with learn.save"
                )
            masks[layer + "weight"] = _read(path, name, tensor, stored[layer + "weight"])
    return prune_stored(checkpoint, weights, masks, source=NAME)


def _split(name: str) -> tuple[str, str]:
    """Return the layer of a tensor, with the dot behind it, and its own name."""
    layer, dot, own = name.rpartition(".")
    return layer + dot, own


def _read(path: Path, name: str, mask: Tensor, weight: Tensor) -> Tensor:
    check_plain(path, name, mask)
    check_plain(path, name, weight)
    fits = mask.dim() == weight.dim() and all(
        size in (1, full) for size, full in zip(mask.shape, weight.shape, strict=True)
    )
    if not fits:  # read_mask says so
        return read_mask(path, name, mask, weight)
    return read_mask(path, name, mask, mask).expand_as(weight)
