"""The mask file: packed masks by name, Rice-coded in a safetensors container (docs/format.md)."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpmt.atomic import atomic_path
from gpmt.errors import MaskError
from gpmt.formats.masks import rice
from gpmt.formats.masks.hashes import Shapes, mask_hash, structure_hash
from gpmt.formats.masks.strict_json import read_json
from gpmt.formats.sorted_header import save_safetensors
from gpmt.system import memory_limit

FORMAT = "gpmt-masks"
VERSION = 2

_MAX_DIMENSIONS = 64  # as many as PyTorch has


Packed = dict[str, NDArray[np.uint8]]


def write_mask_file(
    path: str | os.PathLike[str], packed: Mapping[str, NDArray[np.uint8]], shapes: Shapes
) -> None:
    """Write packed masks, atomically.

    Args:
        path: file to write.
        packed: name -> uint8 [ceil(numel / 8)]; bit i % 8 of byte i // 8 is weight i in flat order.
        shapes: name -> shape of the masked tensor, in the order of the network.

    Raises:
        CheckpointError: the file cannot be written.
    """
    codes = {name: rice.encode(packed[name], math.prod(shape)) for name, shape in shapes.items()}
    entries = {
        name: {
            "shape": list(shapes[name]),
            "kept": code.kept,
            "parameter": code.parameter,
            "complement": code.complement,
        }
        for name, code in codes.items()
    }
    metadata = {
        "format": FORMAT,
        "version": str(VERSION),
        "masks": json.dumps(entries),
        "structure": structure_hash(shapes),
        "digest": mask_hash(shapes, packed),
    }
    import torch

    with atomic_path(path) as temporary:
        tensors = {name: torch.from_numpy(code.data) for name, code in codes.items()}
        save_safetensors(tensors, temporary, metadata)


def read_mask_file(path: str | os.PathLike[str]) -> tuple[Packed, dict[str, tuple[int, ...]]]:
    """Return (packed, shapes) as `write_mask_file` takes them.

    Raises `MaskError` for a file that is missing, foreign, damaged or of another version.
    """
    from safetensors import SafetensorError, safe_open

    if Path(path).is_dir():
        raise MaskError(f"{path} is a folder; give a mask file, such as the masks.safetensors of a run")
    if not Path(path).is_file():
        raise MaskError(f"{path}: no such file; give a mask file that gpmt wrote")
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            types = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
            # NumPy lacks some types; a mask is of bytes, and nothing else is read.
            coded = {name: file.get_tensor(name) for name, dtype in types.items() if dtype == "U8"}
    except (SafetensorError, OSError) as error:
        with Path(path).open("rb") as opened:
            torch_file = opened.read(2) in (b"PK", b"\x80\x02")
        raise MaskError(
            f"{path} is not a readable safetensors file ({'it is one of torch.save' if torch_file else error}); save "
            "the masks again with gpmt, which reads no pickled ones"
        ) from None
    if metadata.get("format") != FORMAT:
        raise MaskError(f"{path} is a safetensors file but holds no gpmt masks; give a file that gpmt wrote")
    if metadata.get("version") != str(VERSION):
        raise MaskError(
            f"{path} has mask format version {metadata.get('version')}, but this gpmt reads version {VERSION}; "
            "use the gpmt that wrote it"
        )
    if other := min(types.keys() - coded.keys(), default=None):
        raise MaskError(f"{path} is damaged (the entry of mask {other} is not valid); save the masks again")
    try:
        packed, shapes = _decode(read_json(metadata["masks"]), coded)
    except (KeyError, ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise MaskError(f"{path} is damaged ({error}); save the masks again") from None
    if mask_hash(shapes, packed) != metadata.get("digest"):
        raise MaskError(f"{path} does not match its checksum; it is damaged, save the masks again")
    return packed, shapes


def _decode(
    entries: Mapping[str, Any], coded: Mapping[str, NDArray[Any]]
) -> tuple[Packed, dict[str, tuple[int, ...]]]:
    """Decode masks by the entries of a file, in which anything may be wrong; lengths are checked before bits."""
    packed, shapes, total = {}, {}, 0
    if unlisted := coded.keys() - entries.keys():
        raise MaskError(f"it holds {min(unlisted)}, which its list of masks lacks")
    for name, entry in entries.items():
        data, shape, kept = coded[name], tuple(entry["shape"]), entry["kept"]
        parameter, complement = entry["parameter"], entry["complement"]
        sizes = (*shape, kept, parameter)
        if (
            data.dtype != np.uint8
            or type(complement) is not bool
            or len(shape) > _MAX_DIMENSIONS
            or not all(type(n) is int and n >= 0 for n in sizes)
        ):
            raise MaskError(f"the entry of mask {name} is not valid")
        total += math.prod(max(n, 1) for n in shape)
        if total > min(8 * memory_limit(), 1 << 62):
            raise MaskError(
                f"the masks up to {name} claim {total:,} weights, too many for this machine's memory"
            )
        code = rice.RiceCode(math.prod(shape), kept, parameter, complement, data)
        packed[name], shapes[name] = rice.decode(code), shape
    return packed, shapes
