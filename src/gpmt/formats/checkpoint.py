"""Checkpoints of PyTorch and safetensors, read without running code and written in full or not at all."""

from __future__ import annotations

import json
import os
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gpmt.atomic import atomic_path
from gpmt.core.memory import identity
from gpmt.core.missing_data import check_has_data
from gpmt.errors import CheckpointError, GpmtError, MaskError
from gpmt.formats.bits import SignedZeros, same_bits
from gpmt.formats.file_format import weights_format
from gpmt.formats.masks.mask_file import FORMAT as MASK_FORMAT
from gpmt.formats.sorted_header import save_safetensors
from gpmt.formats.sparse.header import Values
from gpmt.formats.sparse.reader import SparseFile, is_sparse
from gpmt.formats.sparse.writer import SparseSize, save_sparse
from gpmt.formats.stored_names import common_prefix, read_names
from gpmt.formats.suffixes import SPARSE_SUFFIX, check_suffix
from gpmt.formats.torch_file import read_torch
from gpmt.masks import Masks
from gpmt.torch_private import keep_metadata, storage_id

_KEYS = ("state_dict", "model", "model_state_dict")


@dataclass
class Checkpoint:
    """The weights of a file, and what is needed to write them back in the same form.

    Attributes:
        path: the file that was read.
        state_dict: name -> tensor on the CPU, in the file's order, names without the wrapper prefix. Tied
            tensors share memory. The tensors may be changed in place, which leaves the file as it is.
        container: the mapping around the weights with its other entries (epoch, optimizer, ...), or None
            for a file that is nothing but weights.
        key: where in the container the weights are ("state_dict", "model.state_dict"), or None.
        prefix: what DataParallel and torch.compile put before every name, e.g. "module.", or "".
        metadata: the strings in the header of a safetensors file.
        original: the weights as the file stores them, with entries that are not tensors.
        masks: which weights the file itself says are kept; None where only its zeros say it.
        source: what wrote the file, as far as its content tells.
        damaged: tensors that were left out, on request, and what is wrong with each.
    """

    path: Path
    state_dict: dict[str, Tensor]
    container: dict[str, Any] | None = None
    key: str | None = None
    prefix: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    original: Mapping[str, Any] = field(default_factory=dict, repr=False)
    masks: Masks | None = None
    source: str = "torch.save"
    damaged: Mapping[str, str] = field(default_factory=dict)

    @property
    def other_keys(self) -> list[str]:
        """The container's keys beside the weights."""
        first = self.key.split(".")[0] if self.key else None
        return [str(name) for name in self.container or {} if name != first]


def load_checkpoint(path: str | os.PathLike[str], *, skip_bad: bool = False) -> Checkpoint:
    """Read the weights of a file of torch.save (either format) or of safetensors; its content says which.

    The weights are the file itself, or are under ``state_dict``, ``model`` or ``model_state_dict``, or under
    one of them inside another. Reading never runs code from the file: it may hold tensors, plain Python
    values, NumPy numbers (which become Python numbers) and arrays, and ``argparse.Namespace``. Tensors of any
    device come to the CPU; those in torch.save's present format are mapped, and read when they are used. With
    `skip_bad`, damaged tensors of a sparse file are left out, and named in `Checkpoint.damaged`.

    Raises `CheckpointError` for a file that is missing, truncated, foreign, without weights, or that would
    need code from its pickle.
    """
    path = Path(path)
    if weights_format(path) == "safetensors":
        return _load_safetensors(path, skip_bad)
    return find_weights(path, read_torch(path))


def find_weights(path: Path, loaded: Any) -> Checkpoint:
    """Find the weights in what `read_torch` returned. Raises `CheckpointError` where there are none."""
    key, weights = _find_weights(loaded)
    if weights is None:
        held = ", ".join(map(str, list(loaded)[:5])) if isinstance(loaded, Mapping) else type(loaded).__name__
        raise CheckpointError(
            f"{path} holds no state_dict (found: {held or 'nothing'}); "
            f"put it at the top or under {', '.join(_KEYS)}"
        )
    prefix = common_prefix(weights)
    state_dict = {
        name.removeprefix(prefix): value.detach()
        for name, value in weights.items()
        if isinstance(value, Tensor)
    }
    container = dict(loaded) if key else None
    source = "torch.save" if weights_format(path) == "zip" else "torch.save's older format"
    return Checkpoint(path, state_dict, container, key, prefix, original=weights, source=source)


def save_checkpoint(path: str | os.PathLike[str], checkpoint: Checkpoint | Mapping[str, Tensor]) -> None:
    """Write a checkpoint, or bare weights, atomically; the suffix of `path` picks the format.

    ``.pt .pth .th .tar`` keep the container, its other entries and the prefix of the names, so that the file
    serves where it came from. ``.safetensors`` takes the tensors alone, under their plain names; tied tensors
    are written once per name, so that other readers find all of them, and `load_checkpoint` ties them again.
    ``.sparse.safetensors`` is a sparse file (`gpmt.save_sparse`), with the checkpoint's masks if it has some.

    Raises `CheckpointError` for an unknown suffix, for a tensor without data, and where the file cannot be written.
    """
    if not isinstance(checkpoint, Checkpoint):
        checkpoint = Checkpoint(Path(path), dict(checkpoint))
    check_suffix(path)
    check_has_data(checkpoint.state_dict, CheckpointError)
    if str(path).lower().endswith(SPARSE_SUFFIX):
        write_sparse(path, checkpoint)
        return
    with atomic_path(path) as temporary:
        if Path(path).suffix.lower() == ".safetensors":
            _write_safetensors(temporary, checkpoint)
        else:
            write_torch(temporary, checkpoint)


def write_torch(path: Path, checkpoint: Checkpoint) -> None:
    """Write a file of torch.save with the container and the prefix of the names, not atomically."""
    torch.save(_assemble(checkpoint), path)


def write_sparse(
    path: str | os.PathLike[str],
    checkpoint: Checkpoint,
    values: Values = "exact",
    signed_zeros: SignedZeros = "drop",
) -> SparseSize:
    """Write a checkpoint as a sparse file, with its masks, its metadata and what a run noted of its network."""
    noted = (checkpoint.container or {}).get("gpmt")
    # The plan counts what the file itself shows.
    record = {key: noted[key] for key in noted if key != "plan"} if isinstance(noted, Mapping) else None
    return save_sparse(
        checkpoint.state_dict,
        path,
        masks=checkpoint.masks,
        values=values,
        signed_zeros=signed_zeros,
        metadata=checkpoint.metadata,
        record=record,
    )


def _load_safetensors(path: Path, skip_bad: bool) -> Checkpoint:
    import safetensors

    try:
        with safetensors.safe_open(path, framework="pt", device="cpu") as file:
            metadata = dict(file.metadata() or {})
            if metadata.get("format") == MASK_FORMAT:
                raise MaskError(
                    f"{path} holds masks alone (of gpmt), and no weights; give the weights that they belong to"
                )
            if is_sparse(metadata):
                return _load_sparse(path, skip_bad)
            state_dict = {name: file.get_tensor(name) for name in file.offset_keys()}
    except GpmtError:
        raise
    except (safetensors.SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise CheckpointError(
            f"{path} is truncated or damaged ({error}); copy or download it again"
        ) from error
    if not state_dict:
        raise CheckpointError(f"{path} holds no tensors; give a file with weights")
    noted = read_names(metadata.pop("gpmt", "{}"))
    order = [name for name in noted.get("names", []) if name in state_dict]
    state_dict = {name: state_dict[name] for name in dict.fromkeys([*order, *state_dict])}
    for name, first in noted.get("tied", {}).items():
        if {name, first} <= state_dict.keys() and same_bits(state_dict[name], state_dict[first]):
            state_dict[name] = state_dict[first]
    prefix = common_prefix(state_dict)
    plain = {name.removeprefix(prefix): value for name, value in state_dict.items()}
    return Checkpoint(
        path, plain, prefix=prefix, metadata=metadata, original=state_dict, source="safetensors"
    )


def _load_sparse(path: Path, skip_bad: bool) -> Checkpoint:
    with SparseFile(path) as file:
        container = None if file.record is None else {"gpmt": file.record}
        key = None if container is None else _KEYS[0]
        damaged = file.damaged() if skip_bad else {}
        names = [name for name in file if name not in damaged]
        weights, masks = file.load(names), file.masks(names)
        return Checkpoint(
            path,
            weights,
            container,
            key,
            metadata=file.metadata,
            masks=masks,
            source="sparse file",
            damaged=damaged,
        )


def _write_safetensors(path: Path, checkpoint: Checkpoint) -> None:
    tensors: dict[str, Tensor] = {}
    first: dict[Hashable, str] = {}
    tied: dict[str, str] = {}
    for name, tensor in checkpoint.state_dict.items():
        view, storage = identity(tensor), storage_id(tensor)
        if view in first:
            tied[name] = first[view]
        # The format has no shared memory: a name that shares some with an earlier one gets a copy.
        plain = tensor.detach().contiguous()
        tensors[name] = plain.clone() if storage in first and plain.data_ptr() == tensor.data_ptr() else plain
        first.setdefault(view, name)
        first.setdefault(storage, name)
    # The format sorts tensors by type and name, but their order in the network decides ties: keep it.
    noted = json.dumps({"names": list(tensors), "tied": tied})
    save_safetensors(tensors, path, {"format": "pt", **checkpoint.metadata, "gpmt": noted})


def _assemble(checkpoint: Checkpoint) -> Any:
    """Put the weights back into their container, under their prefix, with its other entries."""
    prefix, state_dict = checkpoint.prefix, checkpoint.state_dict
    weights: OrderedDict[str, Any] = OrderedDict()
    for name, value in checkpoint.original.items():
        if not isinstance(value, Tensor):
            weights[name] = value
        elif name.removeprefix(prefix) in state_dict:
            weights[name] = state_dict[name.removeprefix(prefix)]
    for name, tensor in state_dict.items():
        weights.setdefault(prefix + name, tensor)
    keep_metadata(weights, checkpoint.original)
    if checkpoint.container is None or checkpoint.key is None:
        return weights
    root = level = dict(checkpoint.container)
    *outer, last = checkpoint.key.split(".")
    for key in outer:
        level[key] = level = dict(level[key])
    level[last] = weights
    return root


def _find_weights(value: Any, depth: int = 3) -> tuple[str | None, Mapping[str, Any] | None]:
    """Find the state_dict in a file's content: its key ("a.b" inside another, None at the top) and itself."""
    if not isinstance(value, Mapping):
        return None, None
    for key in _KEYS if depth else ():
        inner, weights = _find_weights(value.get(key), depth - 1)
        if weights is not None:
            return f"{key}.{inner}" if inner else key, weights
    if all(isinstance(name, str) for name in value) and any(
        isinstance(item, Tensor) for item in value.values()
    ):
        return None, value
    return None, None
