"""Checkpoints of SparseML for PyTorch, and of the SparseZoo, as SparseML up to its last version, 1.8, wrote them.

They hold the weights under ``state_dict``, pruned in place, beside ``recipe`` (YAML, see `sparseml_recipe`),
``arch_key``, ``epoch`` and ``optimizer``. What the recipe's pruning modifiers name is what was pruned; the masks are
the zeros there. Files that were saved with the modifiers' state (``manager``) also say which zeros are kept weights
that happen to be zero. Networks that SparseML quantised are refused: their tensors are no longer those of the plain
network.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from gpmt.errors import CheckpointError
from gpmt.formats.checkpoint import Checkpoint
from gpmt.formats.importers.source import Source
from gpmt.formats.importers.sparseml_recipe import PruningModifier, read_recipe
from gpmt.formats.importers.stored_masks import check_plain, prune_stored, read_mask, without

NAME = "SparseML"

ASKED_LAST = True
"""A recipe or an architecture can also accompany weights that another tool pruned."""

_RECIPES = ("recipe", "checkpoint_recipe")
_MANAGER = "manager"
_MODIFIER = re.compile(r"\w+Modifier-[0-9a-f]{32}")
_SPARSITY_MASK = ".sparsity_mask"
_QUANTISED = re.compile(
    r"(.*\.)?(weight_fake_quant|activation_post_process|fake_quant_enabled|observer_enabled|_packed_params"
    r"|weight_scale|weight_zero_point)(\..*)?"
)
_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


def recognises(source: Source) -> bool:
    """Tell by a recipe with modifiers, modifiers' state, or SparseML's key of an architecture in the container."""
    checkpoint = source.checkpoint
    container = checkpoint.container or {}
    return (
        "Modifier" in (_recipe_text(checkpoint) or "")
        or isinstance(container.get("arch_key"), str)
        or bool(_modifier_states(checkpoint))
    )


def read(source: Source) -> Checkpoint:
    """Return the weights with the masks of what the recipe prunes; its sparsities stand in the metadata.

    ``metadata["final_sparsity"]`` is what the recipe asked for ("0.8", or "0.75, 0.9" where tensors differ). Without
    a recipe and modifiers' state there are no masks. Recipe and state leave the container, since they are not true of
    the weights once these are pruned further.

    Raises `CheckpointError` for quantised networks, and for a recipe that cannot be read or whose patterns match no
    tensor.
    """
    checkpoint = source.checkpoint
    path, weights = checkpoint.path, checkpoint.state_dict
    for name in weights:
        if _QUANTISED.fullmatch(name):
            raise CheckpointError(
                f"{path} holds {name}, which belongs to a network that SparseML quantised, and cannot be kept in "
                "plain weights; give the checkpoint from before its quantisation"
            )
    modifiers: list[PruningModifier] = []
    text = _recipe_text(checkpoint)
    if text is not None and "Modifier" in text:
        modifiers = read_recipe(path, text)
    recorded = _recorded(checkpoint)
    named = dict.fromkeys(recorded)
    for modifier in modifiers:
        named |= dict.fromkeys(_chosen(checkpoint, modifier))
    masks = {}
    for name in weights:
        if name in named:
            check_plain(path, name, weights[name])
            kept = weights[name] != 0
            masks[name] = kept | recorded[name] if name in recorded else kept
    sparsities = sorted({value for modifier in modifiers for value in modifier.sparsities})
    metadata = dict(checkpoint.metadata)
    if sparsities:
        metadata["final_sparsity"] = ", ".join(f"{value:g}" for value in sparsities)
    pruned = prune_stored(
        checkpoint,
        weights,
        masks,
        source=NAME,
        container=without(checkpoint.container, *_RECIPES, _MANAGER),
    )
    return replace(pruned, metadata=metadata)


def _recipe_text(checkpoint: Checkpoint) -> str | None:
    container = checkpoint.container or {}
    return next((container[key] for key in _RECIPES if isinstance(container.get(key), str)), None)


def _modifier_states(checkpoint: Checkpoint) -> list[Mapping[str, Any]]:
    """Return the states that modifiers saved, by stage or not."""
    manager = (checkpoint.container or {}).get(_MANAGER)
    groups = [manager, *manager.values()] if isinstance(manager, Mapping) else []
    return [
        state
        for group in groups
        if isinstance(group, Mapping)
        for identifier, state in group.items()
        if isinstance(identifier, str) and _MODIFIER.fullmatch(identifier) and isinstance(state, Mapping)
    ]


def _recorded(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Return the masks that modifiers saved; a weight that several mask is kept where all keep it."""
    masks: dict[str, Tensor] = {}
    for state in _modifier_states(checkpoint):
        for key, mask in state.items():
            if not (isinstance(key, str) and key.endswith(_SPARSITY_MASK) and isinstance(mask, Tensor)):
                continue
            name = key.removesuffix(_SPARSITY_MASK)
            if name not in checkpoint.state_dict:
                raise CheckpointError(
                    f"{checkpoint.path} holds the mask {key} but no {name}; save it again with SparseML"
                )
            kept = read_mask(checkpoint.path, key, mask, checkpoint.state_dict[name])
            masks[name] = masks[name] & kept if name in masks else kept
    return masks


def _chosen(checkpoint: Checkpoint, modifier: PruningModifier) -> Iterator[str]:
    """Yield the names of the tensors that a modifier prunes, by SparseML's rules."""
    parameters = [name for name in checkpoint.state_dict if name.rpartition(".")[2] not in _BUFFERS]
    for pattern in modifier.params:
        if pattern == "__ALL__":
            found = parameters
        elif pattern == "__ALL_PRUNABLE__":  # convolutions, linear layers and embeddings
            found = [
                name
                for name in parameters
                if name.rpartition(".")[2] == "weight" and checkpoint.state_dict[name].dim() > 1
            ]
        elif pattern.startswith("re:"):
            found = [name for name in parameters if re.match(pattern[3:], name)]
        else:
            found = [name for name in parameters if name == pattern]
        if not found:
            raise CheckpointError(
                f"{checkpoint.path}: {modifier.name} of the recipe prunes {pattern[:100]}, but no tensor has such a "
                "name; save its state_dict alone, and the zeros are read"
            )
        yield from found
