"""One door for every kind of file: weights, and masks where the file has some, by its content."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from gpmt.core.scope import identity
from gpmt.errors import CheckpointError, MaskError
from gpmt.formats.checkpoint import Checkpoint, file_format, find_weights, load_checkpoint, read_torch
from gpmt.formats.importers import (
    compressed_tensors,
    fasterai,
    hub_folder,
    nncf,
    nni,
    onnx,
    published,
    sparseml,
    torch_prune,
)
from gpmt.formats.masks.mask_file import FORMAT
from gpmt.formats.torch_sparse import from_csr
from gpmt.masks import Masks
from gpmt.model_tools import unwrap

# The first that recognises a file reads it: those whose marks nobody else makes come first.
WEIGHTS_WITH_MASKS = (compressed_tensors, nncf, torch_prune, sparseml, fasterai)

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
        path: a file or a folder.
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
    path = Path(path)
    if path.is_dir() or path.name.endswith(".index.json"):
        checkpoint = hub_folder.read(path)
    else:
        head = _head(path)
        if published.recognises(head):
            base = _weights(path, published.NAME, weights)
            return _combine(path, base, published.read(path, base.state_dict), published.NAME)
        if onnx.recognises(head, path):
            checkpoint = onnx.read(path)
        elif file_format(path) == "safetensors":
            checkpoint = load_checkpoint(path, skip_bad=skip_bad)
            if checkpoint.metadata.get("format") == FORMAT:
                base = _weights(path, "masks of gpmt", weights)
                return _combine(path, base, Masks.load(path, of=base.state_dict), "masks of gpmt")
        else:
            content = read_torch(path, [*nni.GLOBALS, *nncf.GLOBALS])
            if nni.recognises(content):
                base = _weights(path, nni.NAME, weights)
                return _combine(path, base, nni.read_masks(content, path, base.state_dict), nni.NAME)
            checkpoint = find_weights(path, content)
            if any(tensor.layout != torch.strided for tensor in checkpoint.state_dict.values()):
                checkpoint = replace(checkpoint, state_dict=from_csr(checkpoint.state_dict), original={})
    if weights is not None:
        raise CheckpointError(
            f"{path} holds weights itself ({checkpoint.source}); leave out weights=, which is for masks alone"
        )
    for importer in WEIGHTS_WITH_MASKS:
        if importer.recognises(checkpoint):
            checkpoint = importer.convert(checkpoint)
            break
    return checkpoint


def holds_masks(path: str | os.PathLike[str]) -> bool:
    """Tell whether a file holds masks that gpmt wrote, and nothing else."""
    path = Path(path)
    if path.is_dir() or _head(path)[8:9] != b"{" or file_format(path) != "safetensors":
        return False
    return load_checkpoint(path).metadata.get("format") == FORMAT


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(16)
    except OSError:
        file_format(path)  # raises, with a sentence for each way in which a file cannot be read
        raise


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
    return load(weights)


def _combine(path: Path, base: Checkpoint, masks: Masks, kind: str) -> Checkpoint:
    """Return weights under masks; the given tensors stay as they are, and those that are tied stay tied."""
    copies: dict[Hashable, Tensor] = {}
    state = {}
    for name, tensor in base.state_dict.items():
        key = identity(tensor)
        if key not in copies:
            copies[key] = tensor.detach().cpu().clone()
        state[name] = copies[key]
    masks.apply_(state)
    return replace(base, path=path, state_dict=state, masks=masks, source=kind)
