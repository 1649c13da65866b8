"""Files of safetensors and of masks as arrays of NumPy, so that a small command does not wait for PyTorch."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpmt.formats.file_format import format_of, read_head
from gpmt.formats.masks.mask_file import FORMAT as MASKS
from gpmt.formats.masks.mask_file import read_mask_file
from gpmt.formats.stored_names import common_prefix, read_order

_TYPES: dict[str, tuple[str, Any]] = {
    "F64": ("float64", np.float64),
    "F32": ("float32", np.float32),
    "F16": ("float16", np.float16),
    "BF16": ("bfloat16", np.uint16),
    "I64": ("int64", np.int64),
    "I32": ("int32", np.int32),
    "I16": ("int16", np.int16),
    "I8": ("int8", np.int8),
    "U8": ("uint8", np.uint8),
    "BOOL": ("bool", np.bool_),
}
"""The types that NumPy has, or that it can widen: PyTorch's name, and what the bytes are read as."""
_OTHER_TOOLS = re.compile(
    r".*(_orig|_mask|_init_weights|_packed|\.bitmask|\.compressed|parametrizations\..*|nncf.*|(pre|post)_ops\..*)"
)
"""Names that importers know as parts of weights that another tool stored; more names than those will do."""


@dataclass(frozen=True)
class Array:
    """A tensor: its type as PyTorch names it, its shape, and its values, mapped from the file."""

    dtype: str
    shape: tuple[int, ...]
    stored: NDArray[Any]

    def pieces(self, size: int) -> Iterator[NDArray[Any]]:
        """Yield the values in flat order, so many at a time, at least one piece."""
        for start in range(0, max(self.stored.size, 1), size):
            piece = self.stored[start : start + size]
            yield (piece.astype(np.uint32) << 16).view(np.float32) if self.dtype == "bfloat16" else piece


@dataclass(frozen=True)
class MaskArray:
    """A mask: its shape, and its bits, uint8 [ceil(numel / 8)]."""

    shape: tuple[int, ...]
    packed: NDArray[np.uint8]
    dtype: str = "bool"

    @property
    def numel(self) -> int:
        """Number of weights."""
        return math.prod(self.shape)

    @property
    def kept(self) -> int:
        """Number of those that are kept."""
        return int(np.bitwise_count(self.packed).sum(dtype=np.int64))

    def pieces(self, size: int) -> Iterator[NDArray[Any]]:
        """Yield the mask in flat order, so many weights at a time (a multiple of 8), at least one piece."""
        for start in range(0, max(self.numel, 1), size):
            bits = np.unpackbits(self.packed[start // 8 : (start + size) // 8], bitorder="little")
            yield bits[: max(self.numel - start, 0)].view(np.bool_)


def read_masks(path: Path) -> dict[str, MaskArray] | None:
    """Return the masks of a file that gpmt wrote, None for any other file. Raises `MaskError` for a damaged one."""
    metadata = _metadata(path)
    if metadata is None or metadata.get("format") != MASKS:
        return None
    packed, shapes = read_mask_file(path)
    return {name: MaskArray(shapes[name], bits) for name, bits in packed.items()}


def read_weights(path: Path) -> dict[str, Array] | None:
    """Return the tensors that `gpmt.load` would, in its order and under its names.

    None for a file that needs more than NumPy: one of another format, damaged, coded, of rare types, or with names
    that another tool may have written; `gpmt.load` reads it, or says what is wrong with it.
    """
    metadata = _metadata(path)
    if not metadata and metadata != {}:
        return None
    if metadata.get("format", "pt") not in ("pt", "np") or any(key.endswith("_config") for key in metadata):
        return None
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        entries = json.loads(file.read(length))
    entries.pop("__metadata__", None)
    if not entries or any(_OTHER_TOOLS.fullmatch(name) for name in entries):
        return None
    if any(entry["dtype"] not in _TYPES for entry in entries.values()):
        return None
    data = np.memmap(path, np.uint8, "r")[8 + length :]
    order = [name for name in read_order(metadata.get("gpmt", "{}")) if name in entries]
    by_offset = sorted(entries, key=lambda name: entries[name]["data_offsets"])
    prefix = common_prefix(entries)
    return {
        name.removeprefix(prefix): _array(entries[name], data) for name in dict.fromkeys([*order, *by_offset])
    }


def _array(entry: Mapping[str, Any], data: NDArray[np.uint8]) -> Array:
    dtype, stored = _TYPES[entry["dtype"]]
    start, end = entry["data_offsets"]
    return Array(dtype, tuple(entry["shape"]), data[start:end].view(stored))


def _metadata(path: Path) -> dict[str, str] | None:
    """Return the metadata of a valid file of safetensors, None for any other."""
    from safetensors import SafetensorError, safe_open

    if path.is_dir() or format_of(read_head(path)) != "safetensors":
        return None
    try:
        with safe_open(path, framework="np") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError):
        return None
