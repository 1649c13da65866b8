"""Mask files of NNI's pruners: a mask for each target of each module."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from gpmt.errors import MaskError
from gpmt.formats.importers.source import Source
from gpmt.formats.importers.stored_masks import is_plain
from gpmt.formats.short_repr import short_repr
from gpmt.masks import Masks

NAME = "NNI masks"

_CONTAINERS = ("state_dict", "model", "model_state_dict")
_ACTIVATIONS = ("_input_", "_output_")


def _new_dict(*_: Any) -> dict[Any, Any]:
    """In the place of ``collections.defaultdict``: an empty dict, which the pickle fills."""
    return {}


PICKLE_GLOBALS: list[tuple[Any, str]] = [(_new_dict, "collections.defaultdict"), (dict, "builtins.dict")]
"""What NNI 3.0's masks need from ``torch.load(weights_only=True)``: they lie in a defaultdict of dicts."""


def recognises(source: Source) -> bool:
    """Tell whether torch.save wrote the masks of modules."""
    return source.is_torch_file and holds_masks(source.content)


def read(source: Source) -> Masks:
    """Return the masks by tensor name, see `read_masks`."""
    return read_masks(source.content, source.path, source.weights)


def holds_masks(content: object) -> bool:
    """Tell whether `content` is a mapping module -> target -> mask (or None), with a mask of zeros and ones."""
    if not isinstance(content, Mapping) or not content:
        return False
    masks: list[Tensor] = []
    for module, targets in content.items():
        if not isinstance(module, str) or module in _CONTAINERS or not isinstance(targets, Mapping):
            return False
        for target, mask in targets.items():
            if not isinstance(target, str) or "." in target or not isinstance(mask, Tensor | None):
                return False
            if mask is not None:
                masks.append(mask)
    return any(_is_mask(mask) for mask in masks)


def read_masks(content: object, path: Path, weights: Mapping[str, Tensor]) -> Masks:
    """Return the masks by tensor name (module + "." + target), in the order of `weights`.

    A mask of a vector that keeps everything, which NNI writes beside each pruned weight for its bias, says nothing
    and is left out. Names may have the prefix of DataParallel.

    Raises `MaskError` for a mask of no tensor in `weights`, of another shape, with other values than 0 and 1, or
    of activations.
    """
    given = _flatten(content, path)
    names = [name for name in given if name not in weights]
    prefix = "module."
    if names and all(name.startswith(prefix) and name.removeprefix(prefix) in weights for name in given):
        given = {name.removeprefix(prefix): mask for name, mask in given.items()}
    elif names:
        raise MaskError(
            f"{path} holds a mask for {short_repr(names[0])}, which the network does not have; give the weights that "
            "the masks were made for"
        )
    kept: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        mask = given.get(name)
        if mask is None:
            continue
        if mask.shape != tensor.shape:
            raise MaskError(
                f"{path} holds a mask of shape {list(mask.shape)} for {name}, which has {list(tensor.shape)}; give "
                "the weights that the masks were made for"
            )
        if not _is_mask(mask):
            raise MaskError(
                f"{path} holds other values than 0 and 1 in the mask for {name}; it is not a mask of NNI"
            )
        keep = mask != 0
        if mask.ndim > 1 or not bool(keep.all()):
            kept[name] = keep
    if not kept:
        raise MaskError(f"{path} holds no mask of a weight; export the masks from NNI again")
    return Masks.from_dense(kept)


def _flatten(content: object, path: Path) -> dict[str, Tensor]:
    """Return the masks by tensor name. Raises `MaskError` for what `holds_masks` would not accept."""
    if not isinstance(content, Mapping):
        raise MaskError(f"{path} holds no masks of NNI, which are a mapping; export them from NNI again")
    found: dict[str, Tensor] = {}
    for module, targets in content.items():
        if not isinstance(targets, Mapping):
            raise MaskError(
                f"{path} holds no masks for module {short_repr(module)}; export them from NNI again"
            )
        for target, mask in targets.items():
            if not isinstance(mask, Tensor):
                continue
            name = f"{module}.{target}" if module else str(target)
            if str(target).startswith(_ACTIVATIONS):
                raise MaskError(
                    f"{path} holds a mask of activations ({short_repr(name)}), which no weights can show; export "
                    "masks of weights alone"
                )
            found[name] = mask
    return found


def _is_mask(mask: Tensor) -> bool:
    return is_plain(mask) and bool(((mask == 0) | (mask == 1)).all())
