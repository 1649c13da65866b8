"""PyTorch networks with the sparsity masks of NNCF, OpenVINO's Neural Network Compression Framework.

Two layouts of a state_dict are read:

* Hooks (`nncf.prune` of NNCF 2.19 and 3.x). The weights have their plain names; masks come behind them, as
  ``__nncf_hooks.post_hooks.block:0:weight__0.0.binary_mask``: the name of the weight with ":" for ".", the port
  (always 0) and the number of the hook. Pruning by magnitude stores bool; pruning by regularisation stores ``mask``,
  floats of which those with a sigmoid above 0.5 are kept. A hook belongs to the tensor, under all its names.
* Operations of layers (`create_compressed_model` of NNCF 1.4 to 2.19). Beside the ``weight`` of a layer lies
  ``pre_ops.0.op._binary_mask``, 0 and 1 in floats, for sparsity by magnitude, by regularisation and constant
  sparsity; movement sparsity has ``weight_ctx._binary_mask`` and ``bias_ctx._binary_mask``. What these masks were
  learned from lies there too and is dropped. Every convolution has an ``nncf_padding_value`` of 0, stripped networks
  too. Up to NNCF 2.4 all names begin with ``nncf_module.``.

Filter pruning and quantisation are refused: their tensors change what a network computes in further ways.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor

from gpmt.errors import CheckpointError
from gpmt.formats.checkpoint import Checkpoint
from gpmt.formats.importers.source import Source
from gpmt.formats.importers.stored_masks import OPTIMIZERS, check_plain, prune_stored, read_mask, without

NAME = "NNCF"

PICKLE_GLOBALS: list[tuple[Any, str]] = [(int, "nncf.api.compression.CompressionStage")]
"""What the ``compression_state`` of NNCF 2 needs from ``torch.load(weights_only=True)``: a stage, as its number."""

_WRAPPER = "nncf_module."
_HOOKS = "__nncf_hooks."
_HOOK = re.compile(r"(|.*\.)__nncf_hooks\.post_hooks\.([^.]+)__0\.\d+\.(binary_mask|mask)")
_OPERATION = re.compile(r"(|.*\.)(?:pre_ops|post_ops)\.\d+\.op\.(.+)")
_PADDING = "nncf_padding_value"
_FILTERS = "_binary_filter_pruning_mask"
_MASKS = {"_binary_mask": "weight", "weight_ctx._binary_mask": "weight", "bias_ctx._binary_mask": "bias"}
_LEARNED = {"_mask", "uniform", "weight_importance", "bias_importance"}
_QUANTIZERS = ("_nncf.", "external_quantizers.")
_STATE = ("compression_state", "nncf_config")


def recognises(source: Source) -> bool:
    """Tell whether NNCF saved this network: by the names of its hooks, masks, wrapper or padding values."""
    return any(
        name.startswith(_WRAPPER)
        or f".{_HOOKS}" in f".{name}"
        or name.rpartition(".")[2] == _PADDING
        or ((operation := _OPERATION.fullmatch(name)) and operation[2] in (*_MASKS, _FILTERS))
        for name in source.checkpoint.state_dict
    )


def read(source: Source) -> Checkpoint:
    """Return the weights under their plain names, pruned, with their masks; None where NNCF has stripped them.

    The container loses NNCF's own state, and what optimisers knew where masks were among the parameters.

    Raises `CheckpointError`, naming the tensor, for filter pruning and quantisation, a mask without its weight, of
    another shape or with values other than 0 and 1, tied weights that are pruned differently, and padding with
    something other than 0.
    """
    checkpoint = source.checkpoint
    stored = {name.removeprefix(_WRAPPER): tensor for name, tensor in checkpoint.state_dict.items()}
    if len(stored) < len(checkpoint.state_dict):
        raise CheckpointError(
            f"{checkpoint.path} holds tensors both with and without {_WRAPPER} before the same name; save one network"
        )
    weights: dict[str, Tensor] = {}
    masks: dict[str, Tensor] = {}
    learned = by_module = False
    for name, tensor in stored.items():
        if f".{_HOOKS}" in f".{name}":
            weight, mask, floats = _read_hook(checkpoint, name, stored)
            learned |= floats
        elif operation := _OPERATION.fullmatch(name):
            layer, part = operation.groups()
            if part in _LEARNED:
                learned |= part != "uniform"
                continue
            by_module = True
            weight, mask = _read_operation(checkpoint, name, layer, part, stored)
        elif name.rpartition(".")[2] == _PADDING:
            _check_padding(checkpoint, name, tensor)
            continue
        elif name.startswith(_QUANTIZERS):
            raise _quantised(checkpoint, name)
        else:
            weights[name] = tensor
            continue
        masks[weight] = masks[weight] & mask if weight in masks else mask
    return prune_stored(
        checkpoint,
        weights,
        masks,
        source=NAME,
        by_module=by_module,
        container=without(checkpoint.container, *_STATE, *(OPTIMIZERS if learned else ())),
    )


def _read_hook(checkpoint: Checkpoint, name: str, stored: dict[str, Tensor]) -> tuple[str, Tensor, bool]:
    """Return the name of a weight, its mask, and whether that was learned as floats."""
    match = _HOOK.fullmatch(name)
    if match is None:
        raise _quantised(checkpoint, name)
    outer, operator, kind = match.groups()
    weight = outer + operator.replace(":", ".")
    mask = stored[name]
    owner = _weight(checkpoint, name, weight, stored)
    if kind == "mask":
        check_plain(checkpoint.path, name, mask)
        mask = torch.sigmoid(mask) > 0.5
    return weight, read_mask(checkpoint.path, name, mask, owner), kind == "mask"


def _read_operation(
    checkpoint: Checkpoint, name: str, layer: str, part: str, stored: dict[str, Tensor]
) -> tuple[str, Tensor]:
    """Return the name of a weight or bias, and its mask."""
    if part == _FILTERS:
        raise CheckpointError(
            f"{checkpoint.path} holds {name}, a mask of NNCF's filter pruning, which does not say what dimension it "
            "prunes; apply it with strip() of the compression controller and save again"
        )
    if part not in _MASKS:
        raise _quantised(checkpoint, name)
    weight = layer + _MASKS[part]
    owner = _weight(checkpoint, name, weight, stored)
    return weight, read_mask(checkpoint.path, name, stored[name], owner)


def _weight(checkpoint: Checkpoint, mask: str, weight: str, stored: dict[str, Tensor]) -> Tensor:
    if weight not in stored:
        raise CheckpointError(
            f"{checkpoint.path} holds the mask {mask} but not its weight {weight}; save the whole state_dict again"
        )
    return stored[weight]


def _check_padding(checkpoint: Checkpoint, name: str, value: Tensor) -> None:
    check_plain(checkpoint.path, name, value)
    if value.any():
        raise CheckpointError(
            f"{checkpoint.path}: {name} is {value.flatten()[0].item():g}, but plain convolutions pad with 0; save "
            "the network without NNCF's padding values"
        )


def _quantised(checkpoint: Checkpoint, name: str) -> CheckpointError:
    return CheckpointError(
        f"{checkpoint.path} holds {name}, which belongs to NNCF's quantisation or to another method than sparsity, "
        "and cannot be kept in plain weights; save the network with sparsity alone"
    )
