"""`gpmt.load`: weights, and masks where there are some, from a file or folder of any known tool."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor, nn

from gpmt.core.memory import identity
from gpmt.core.scope.described import Described
from gpmt.errors import CheckpointError, MaskError
from gpmt.formats.checkpoint import Checkpoint
from gpmt.formats.hub_folder import CONFIG
from gpmt.formats.hub_network import describe
from gpmt.formats.importers.mask_files import gpmt_masks
from gpmt.formats.importers.registry import MASK_FILES, MASKED_WEIGHTS
from gpmt.formats.importers.source import Source
from gpmt.masks import Masks
from gpmt.model_tools import not_a_network, unwrap

Weights = nn.Module | Mapping[str, Tensor] | Checkpoint | str | os.PathLike[str]


def load(
    path: str | os.PathLike[str], *, weights: Weights | None = None, skip_bad: bool = False
) -> Checkpoint:
    """Read a file or folder of any tool that is known here, as plain weights and masks; its content says which it is.

    Weights: files of torch.save and safetensors, sparse files, Hugging Face folders, ONNX. Weights with masks inside:
    ``torch.nn.utils.prune``, Lightning, SparseML, NNCF, fasterai, compressed-tensors. Masks alone: those of gpmt, NNI
    and the published scripts, which `weights` complete. Pruned weights are +0.0 in what is returned, and names and
    shapes those of the network before any tool wrapped it. Nothing from a pickle is run.

    Args:
        path: a file, or a folder; that of a run (`gpmt run`) stands for its model.pt.
        weights: what the masks in `path` belong to: a network, a state_dict, or a file. Only for files with masks
            alone.
        skip_bad: leave out the damaged tensors of a sparse file; `Checkpoint.damaged` names them.

    Raises:
        CheckpointError: a file that is missing, damaged or foreign, or that would need code from its pickle.
        MaskError: masks without `weights`, or masks that do not fit them.

    >>> import tempfile, torch
    >>> from torch.nn.utils import prune
    >>> layer = nn.Linear(4, 2)
    >>> _ = prune.l1_unstructured(layer, "weight", amount=5)
    >>> with tempfile.TemporaryDirectory() as temporary:
    ...     torch.save(layer.state_dict(), f"{temporary}/layer.pt")
    ...     loaded = load(f"{temporary}/layer.pt")
    >>> sorted(loaded.state_dict), loaded.masks.total_pruned, loaded.source
    (['bias', 'weight'], 5, 'torch.nn.utils.prune')
    """
    source = Source(Path(path), skip_bad=skip_bad)
    masks_alone = MASK_FILES.recognising(source)
    if masks_alone is not None:
        base = _weights(source.path, masks_alone.NAME, weights)
        source.weights = base.state_dict
        return _combine(source.path, base, masks_alone.read(source), masks_alone.NAME)
    checkpoint = source.checkpoint
    if weights is not None:
        raise CheckpointError(
            f"{path} holds weights itself ({checkpoint.source}); leave out weights=, which is for masks alone"
        )
    importer = MASKED_WEIGHTS.recognising(source)
    return _describe(checkpoint if importer is None else importer.read(source))


def _describe(checkpoint: Checkpoint) -> Checkpoint:
    """Return a checkpoint whose state_dict knows the network of the config.json beside it, where there is one."""
    folder = checkpoint.path if checkpoint.path.is_dir() else checkpoint.path.parent
    if not (folder / CONFIG).is_file():
        return checkpoint
    return replace(checkpoint, state_dict=describe(folder, checkpoint.state_dict))


def holds_masks(path: str | os.PathLike[str]) -> bool:
    """Tell whether a file holds masks that gpmt wrote, and nothing else."""
    source = Source(Path(path))
    return not source.path.is_dir() and bool(source.head) and gpmt_masks.recognises(source)


def _weights(path: Path, kind: str, weights: Weights | None) -> Checkpoint:
    """Return the weights that the masks in `path` belong to."""
    if weights is None:
        raise MaskError(
            f"{path} holds masks alone ({kind}); give the weights they belong to: gpmt convert {path.name} OUT "
            "--weights FILE, or weights= in Python"
        )
    if isinstance(weights, Checkpoint):
        return weights
    if isinstance(weights, nn.Module):
        return Checkpoint(path, unwrap(weights).state_dict())
    if isinstance(weights, Mapping):
        return Checkpoint(path, dict(weights))
    if isinstance(weights, str | os.PathLike):
        return load(weights)
    raise CheckpointError(not_a_network(weights))


def _combine(path: Path, base: Checkpoint, masks: Masks, kind: str) -> Checkpoint:
    """Return weights under masks; the given tensors stay as they are, and those that are tied stay tied."""
    copies: dict[Hashable, Tensor] = {}
    state: dict[str, Tensor] = {}
    for name, tensor in base.state_dict.items():
        key = identity(tensor)
        if key not in copies:
            copies[key] = tensor.detach().cpu().clone()
        state[name] = copies[key]
    masks.apply_(state)
    if isinstance(base.state_dict, Described):
        state = base.state_dict.with_tensors(state)
    return replace(base, path=path, state_dict=state, masks=masks, source=kind)
