"""Sparse folders of the compressed-tensors library, as its versions 0.3 to 0.14 wrote them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gpmt.core.layers.roles import Role
from gpmt.core.scope.candidates import find_candidates
from gpmt.errors import CheckpointError
from gpmt.formats.checkpoint import Checkpoint
from gpmt.formats.hub_folder import COMPRESSION
from gpmt.formats.importers.source import Source
from gpmt.masks import Masks

NAME = "compressed-tensors"

# A sparse tensor is stored as four (sparse-bitmask) or three (sparse-24-bitmask) tensors. Of a weight [..., C]:
#   .shape        int64, its dimensions; [n] or [n, 1]
#   .bitmask      uint8 [..., ceil(C / 8)]: bit i % 8, the lowest first, of byte i // 8 in a row is column i
#   .compressed   the values where a bit is set, in flat order; with 2:4, in two dimensions
#   .row_offsets  int64, how many values lie before each row; not with 2:4
_PARTS = ("shape", "bitmask", "compressed")
_OFFSETS = "row_offsets"
_PLAIN_FORMATS = (None, "dense", "sparse-bitmask", "sparse-24-bitmask")
_PACKED = (".weight_packed", ".scale_packed")


def recognises(source: Source) -> bool:
    """Tell whether the library wrote these weights: by its entries in config.json, or the names of the tensors."""
    checkpoint = source.checkpoint
    config, names = _config(checkpoint), checkpoint.state_dict
    return (
        config.get("quant_method") == NAME
        or "sparsity_config" in config
        or any(all(f"{stem}.{part}" in names for part in _PARTS) for stem in _stems(names))
        or any(name.endswith(_PACKED) for name in names)
    )


def read(source: Source) -> Checkpoint:
    """Return the dense weights under their plain names, and the masks of those that can be pruned.

    The masks are the stored bits; where all that the folder's tensors are is dense, only their zeros say what is
    pruned. Raises `CheckpointError` for quantised weights, and for parts that are missing or do not fit together.
    """
    checkpoint = source.checkpoint
    path, stored = checkpoint.path, checkpoint.state_dict
    _refuse_quantised(checkpoint)
    stems = _stems(stored)
    # Up to version 0.8 a stem is the whole name of a tensor; later ones compress only weights and drop the name.
    whole = any(stem.rpartition(".")[2] == "weight" for stem in stems)
    dense: dict[str, Tensor] = {}
    masks: dict[str, Tensor] = {}
    for key, tensor in stored.items():
        stem, _, part = key.rpartition(".")
        if stem not in stems or part not in (*_PARTS, _OFFSETS):
            name, value = key, tensor
        else:
            name = stem if whole else f"{stem}.weight"
            if name in masks:
                continue
            value, masks[name] = _CompressedTensor.take(checkpoint, stem).unpack()
        if name in dense:
            raise CheckpointError(f"{path} holds {name} twice, plain and compressed; it is damaged")
        dense[name] = value
    metadata = {key: text for key, text in checkpoint.metadata.items() if key not in COMPRESSION}
    return replace(
        checkpoint,
        state_dict=dense,
        masks=_prunable(dense, masks),
        metadata=metadata,
        original={},
        source=NAME,
    )


@dataclass
class _CompressedTensor:
    """The parts of one compressed tensor, and where they came from for the messages."""

    where: str
    shape: tuple[int, ...]
    bitmask: Tensor
    values: Tensor
    offsets: Tensor | None

    @classmethod
    def take(cls, checkpoint: Checkpoint, stem: str) -> _CompressedTensor:
        stored, where = checkpoint.state_dict, f"{checkpoint.path} holds {stem} compressed, but"
        missing = [part for part in _PARTS if f"{stem}.{part}" not in stored]
        if missing:
            raise CheckpointError(
                f"{where} not its .{missing[0]}; give the whole folder, or download it again"
            )
        shape, bitmask, values = (stored[f"{stem}.{part}"] for part in _PARTS)
        if shape.dtype != torch.int64 or not 0 < shape.numel() <= 8 or bool((shape <= 0).any()):
            raise CheckpointError(f"{where} its .shape is not a list of dimensions; download it again")
        if not values.is_floating_point() or values.dtype.itemsize < 2:
            raise CheckpointError(
                f"{where} its values are {values.dtype}: quantised weights are not supported; decompress the "
                "folder with compressed-tensors first"
            )
        dimensions = tuple(map(int, shape.reshape(-1).tolist()))
        return cls(where, dimensions, bitmask, values, stored.get(f"{stem}.{_OFFSETS}"))

    def unpack(self) -> tuple[Tensor, Tensor]:
        """Return the dense tensor, +0.0 where no bit is set, and the bits as a bool mask of its shape."""
        rows, columns = math.prod(self.shape[:-1]), self.shape[-1]
        # The bits bound the size of what is made of them: at most eight weights for each byte of the file.
        if self.bitmask.dtype != torch.uint8 or self.bitmask.numel() != rows * ((columns + 7) // 8):
            raise CheckpointError(
                f"{self.where} its bitmask of {list(self.bitmask.shape)} bytes does not fit its shape "
                f"{list(self.shape)}; download it again"
            )
        packed = self.bitmask.reshape(rows, -1).numpy()
        bits = np.unpackbits(packed, axis=1, count=columns, bitorder="little")
        mask = torch.from_numpy(bits).view(torch.bool)
        counts = mask.sum(1)
        kept = int(counts.sum())
        if kept != self.values.numel():
            raise CheckpointError(
                f"{self.where} {self.values.numel():,} values for the {kept:,} bits of its bitmask; download it again"
            )
        # In other than two dimensions the library's own sums are of no use, nor does it read them.
        if self.offsets is not None and len(self.shape) == 2:
            expected = counts.cumsum(0) - counts
            if not torch.equal(self.offsets.reshape(-1), expected):
                raise CheckpointError(
                    f"{self.where} its row_offsets do not fit its bitmask; it is damaged, download it again"
                )
        dense = torch.zeros(rows, columns, dtype=self.values.dtype, device="cpu")
        dense[mask] = self.values.reshape(-1)
        return dense.view(self.shape), mask.view(self.shape)


def _prunable(dense: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> Masks | None:
    """Return the masks of prunable tensors; zeros of other compressed tensors, such as biases, are not pruned."""
    rows = find_candidates({name: dense[name] for name in masks}).rows
    names = [row.name for row in rows if row.role in (Role.LAYER, Role.HEAD)]
    return Masks.from_dense({name: masks[name] for name in names}) if names else None


def _stems(names: Mapping[str, Any]) -> set[str]:
    """Return what precedes ".bitmask" or ".compressed" in the names of compressed tensors."""
    stems = (name.rpartition(".") for name in names)
    return {stem for stem, _, part in stems if part in ("bitmask", "compressed")}


def _refuse_quantised(checkpoint: Checkpoint) -> None:
    config = _config(checkpoint)
    kind = config.get("format")
    if kind in _PLAIN_FORMATS and (kind or not config.get("config_groups")):
        packed = next((name for name in checkpoint.state_dict if name.endswith(_PACKED)), None)
        if packed is None:
            return
        kind = f"it holds {packed}"
    raise CheckpointError(
        f"{checkpoint.path} is quantised by compressed-tensors ({str(kind or 'config_groups')[:100]}), which is not "
        "supported; decompress it with that library first, or give the network before its quantisation"
    )


def _config(checkpoint: Checkpoint) -> Mapping[str, Any]:
    """Return the settings of the compression in config.json; its sparsity_config may be inside or beside them."""
    found: dict[str, Any] = {}
    for key in COMPRESSION:
        try:
            value = json.loads(checkpoint.metadata.get(key, "null"))
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict) and value:
            found |= {key: value} if key == "sparsity_config" else value
    return found
