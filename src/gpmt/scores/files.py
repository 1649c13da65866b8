"""Scores as a file of safetensors, which `gpmt prune --scores` reads, and the check that they fit a network."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from gpmt.atomic import atomic_path
from gpmt.core.missing_data import check_has_data
from gpmt.core.patterns import Patterns
from gpmt.core.scope.scope import find_scope
from gpmt.errors import ScoresError, first_line
from gpmt.formats.sorted_header import save_safetensors
from gpmt.model_tools import unwrap
from gpmt.suggestions import close_names

FORMAT = "gpmt-scores"
VERSION = "1"

_DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def save(path: str | os.PathLike[str], scores: Mapping[str, Tensor]) -> None:
    """Write scores as a safetensors file, atomically.

    Args:
        path: the file to write, such as scores.safetensors.
        scores: name -> floating scores in the shape of the weight; infinite ones may be among them.

    Raises:
        ScoresError: no scores, scores that are not floating tensors, or NaN.
        CheckpointError: the file cannot be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(f"{folder}/scores.safetensors", {"fc.weight": torch.tensor([[0.5, -torch.inf]])})
    ...     load(f"{folder}/scores.safetensors")
    {'fc.weight': tensor([[0.5000,   -inf]])}
    """
    check_has_data(scores, ScoresError)
    _check_values(scores, "the scores")
    metadata = {"format": FORMAT, "version": VERSION, "names": json.dumps(list(scores))}
    stored = {
        name: score.detach().to("cpu").clone(memory_format=torch.contiguous_format)
        for name, score in scores.items()
    }
    with atomic_path(path) as temporary:
        save_safetensors(stored, temporary, metadata)


def load(
    path: str | os.PathLike[str],
    target: nn.Module | Mapping[str, Tensor] | None = None,
    *,
    scope: Patterns | None = None,
    exclude: Patterns | None = (),
) -> dict[str, Tensor]:
    """Read scores that `save` wrote, or any safetensors file with one floating tensor for each prunable tensor.

    Args:
        path: the file.
        target: the network, or mapping of tensors, that the scores are for. Every prunable tensor must have scores
            of its shape, and every score a tensor. None: nothing is checked against.
        scope: patterns that choose the prunable tensors, as in `gpmt.find_scope`.
        exclude: patterns of tensors to leave out.

    Returns:
        name -> scores, float32 (float64 where so stored). With a target: those of the prunable tensors, in their
        order and on their devices. Otherwise all that is in the file, on the CPU.

    Raises:
        ScoresError: a file that is missing, damaged or of another kind; NaN; scores that do not fit the target.
        ScopeError: as from `gpmt.find_scope`.
    """
    scores = _read(Path(path))
    _check_values(scores, str(path))
    scores = {
        name: score.to(torch.promote_types(score.dtype, torch.float32)) for name, score in scores.items()
    }
    if target is None:
        return scores
    network = unwrap(target) if isinstance(target, nn.Module) else target
    found = find_scope(network, scope=scope, exclude=exclude, shared=True)
    named = (
        network.named_parameters(remove_duplicate=False)
        if isinstance(network, nn.Module)
        else network.items()
    )
    known = {name for name, _ in named}
    if foreign := next((name for name in scores if name not in known), None):
        near = close_names(foreign, known)
        raise ScoresError(
            f"{path} has scores of {foreign}, which the network does not have"
            f"{f' (it has {near[0]})' if near else ''}; give the scores of this network"
        )
    # A tied tensor may be stored under any of its names.
    stored = {
        name: next((scores[one] for one in (name, *found.aliases.get(name, ())) if one in scores), None)
        for name in found.tensors
    }
    present = {name: score for name, score in stored.items() if score is not None}
    check_fit(present, found.tensors, str(path))
    return {name: score.to(found.tensors[name].device) for name, score in present.items()}


def check_fit(scores: Mapping[str, Tensor], tensors: Mapping[str, Tensor], source: str) -> None:
    """Raise `ScoresError`, naming the first, unless there are scores for just these tensors, in their shapes.

    >>> check_fit({"a": torch.ones(2)}, {"a": torch.zeros(2)}, "the file")
    """
    for name, tensor in tensors.items():
        if name not in scores:
            raise ScoresError(
                f"{source} has no scores of {name}; give scores of all prunable tensors, or exclude it"
            )
        if scores[name].shape != tensor.shape:
            raise ScoresError(
                f"{source} has scores of shape {list(scores[name].shape)} for {name}, whose shape is "
                f"{list(tensor.shape)}; give the scores of this network"
            )
    if foreign := next((name for name in scores if name not in tensors), None):
        raise ScoresError(f"{source} has scores of {foreign}, which is not among the tensors to prune")


def _check_values(scores: Mapping[str, Tensor], source: str) -> None:
    if not scores:
        raise ScoresError(f"{source}: no tensors; give scores of every prunable tensor")
    for name, score in scores.items():
        if score.dtype not in _DTYPES:
            raise ScoresError(
                f"{source}: the scores of {name} are {score.dtype}, but must be float64, float32, float16 or bfloat16"
            )
        if bool(torch.isnan(score).any()):
            raise ScoresError(
                f"{source}: {int(torch.isnan(score).sum()):,} of the {score.numel():,} scores of {name} are NaN, "
                "which cannot be ranked; compute them again"
            )


def _read(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError, safe_open

    if path.is_dir():
        raise ScoresError(f"{path} is a folder; give a file of scores")
    if not path.is_file():
        raise ScoresError(f"{path}: no such file; give a file that gpmt.scores.save wrote")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = dict(file.metadata() or {})
            kind = metadata.get("format", FORMAT)
            if kind.startswith("gpmt-") and kind != FORMAT:
                raise ScoresError(f"{path} holds no scores ({kind}); give a file that gpmt.scores.save wrote")
            if kind == FORMAT and metadata.get("version", VERSION) != VERSION:
                raise ScoresError(
                    f"{path} has scores of format version {metadata['version']}, but this gpmt reads version "
                    f"{VERSION}; use the gpmt that wrote it"
                )
            stored = {name: file.get_tensor(name) for name in file.offset_keys()}
    except (SafetensorError, OSError, RuntimeError) as error:
        raise ScoresError(
            f"{path} is not a readable safetensors file ({first_line(error)}); save the scores again with "
            "gpmt.scores.save, which needs no pickle"
        ) from None
    order = [name for name in _names(metadata.get("names", "[]")) if name in stored]
    return {name: stored[name] for name in dict.fromkeys([*order, *stored])}


def _names(text: str) -> list[str]:
    """Return the names in their order; nothing where another program used the key."""
    try:
        names = json.loads(text)
    except (ValueError, RecursionError):
        return []
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
