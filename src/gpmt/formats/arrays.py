"""Files of safetensors, sparse files and masks as arrays of NumPy: small commands do not wait for PyTorch."""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpmt.arithmetic import ceil_div
from gpmt.errors import MaskError
from gpmt.formats.file_format import format_of, read_head
from gpmt.formats.masks.mask_file import FORMAT as MASKS
from gpmt.formats.masks.mask_file import read_mask_file
from gpmt.formats.masks.rice import BLOCK, RiceCode, decode, scatter
from gpmt.formats.sparse.header import FORMAT as SPARSE
from gpmt.formats.sparse.header import Entry, HeaderError, parse
from gpmt.formats.stored_names import common_prefix, read_names

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
_BY_NAME = dict(_TYPES.values())
_OTHER_TOOLS = re.compile(
    r".*(_orig|_mask|_init_weights|_packed|_[guv]|\.bitmask|\.compressed|parametrizations\..*|nncf.*|(pre|post)_ops\..*)"
)
"""Names that importers know as parts of weights that another tool stored; more names than those will do."""


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file: its type as PyTorch names it, and its shape."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def numel(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Array(StoredTensor):
    """A tensor whose values are mapped from the file."""

    stored: NDArray[Any]

    def pieces(self, size: int) -> Iterator[NDArray[Any]]:
        """Yield the values in flat order, so many at a time, at least one piece."""
        for start in range(0, max(self.stored.size, 1), size):
            piece = self.stored[start : start + size]
            yield (piece.astype(np.uint32) << 16).view(np.float32) if self.dtype == "bfloat16" else piece


@dataclass(frozen=True)
class MaskArray(StoredTensor):
    """A mask, and its bits, uint8 [ceil(numel / 8)]."""

    packed: NDArray[np.uint8]

    @property
    def kept(self) -> int:
        """Number of those that are kept."""
        return int(np.bitwise_count(self.packed).sum(dtype=np.int64))

    def pieces(self, size: int) -> Iterator[NDArray[Any]]:
        """Yield the mask in flat order, so many weights at a time (a multiple of 8), at least one piece."""
        for start in range(0, max(self.numel, 1), size):
            bits = np.unpackbits(self.packed[start // 8 : (start + size) // 8], bitorder="little")
            yield bits[: max(self.numel - start, 0)].view(np.bool_)


@dataclass(frozen=True)
class CodedArray(StoredTensor):
    """A tensor of a sparse file whose kept values are stored as they are: its mask, and their bits as integers."""

    code: RiceCode
    values: NDArray[Any]

    def pieces(self, size: int) -> Iterator[NDArray[Any]]:
        """Yield the values in flat order, so many at a time (a multiple of the blocks of the code)."""
        stored, numel = _BY_NAME[self.dtype], self.code.numel
        kept = self.code.index.kept
        for start in range(0, max(numel, 1), size):
            first, last = start // BLOCK, ceil_div(min(start + size, numel), BLOCK)
            bits = np.zeros(min(size, numel - start), self.values.dtype)
            scatter(self.code, first, last, self.values[kept[first] : kept[last]], bits)
            yield from Array(self.dtype, bits.shape, bits.view(stored)).pieces(size)


@dataclass(frozen=True)
class StoredWeights:
    """What `gpmt.load` would tell of a file.

    Attributes:
        tensors: name -> array, in the order of `gpmt.load`; names that are tied have the same array.
        source: what wrote the file.
        prefix: what wrappers put before every name.
        metadata: the user's strings.
        masks: the codes of masks that are stored as such, by tensor name.
        record: whether a run noted its network.
        tied: whether names are tied.
    """

    tensors: Mapping[str, Array | CodedArray]
    source: str
    prefix: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    masks: Mapping[str, RiceCode] = field(default_factory=dict)
    record: bool = False
    tied: bool = False


def read_masks(path: Path) -> dict[str, MaskArray] | None:
    """Return the masks of a file that gpmt wrote, None for any other file. Raises `MaskError` for a damaged one."""
    metadata = _metadata(path)
    if metadata is None or metadata.get("format") != MASKS:
        return None
    packed, shapes = read_mask_file(path)
    return {name: MaskArray("bool", shapes[name], bits) for name, bits in packed.items()}


def read_weights(path: Path) -> StoredWeights | None:
    """Return the tensors that `gpmt.load` would, in its order and under its names.

    None for a file that needs more than NumPy: one of another format, damaged, with values in fewer bits, of rare
    types, or with names that another tool may have written; `gpmt.load` reads it, or says what is wrong with it.
    """
    metadata = _metadata(path)
    if metadata is None:
        return None
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        entries = json.loads(file.read(length))
    entries.pop("__metadata__", None)
    data = np.memmap(path, np.uint8, "r")[8 + length :]
    if metadata.get("format") == SPARSE:
        return _sparse_weights(metadata, entries, data)
    if metadata.get("format", "pt") not in ("pt", "np") or any(key.endswith("_config") for key in metadata):
        return None
    if not entries or not _plain(entries.items()):
        return None
    noted = read_names(metadata.pop("gpmt", "{}"))
    order = [name for name in noted.get("names", []) if name in entries]
    by_offset = sorted(entries, key=lambda name: entries[name]["data_offsets"])
    prefix = common_prefix(entries)
    tensors = {
        name.removeprefix(prefix): _array(entries[name], data) for name in dict.fromkeys([*order, *by_offset])
    }
    return StoredWeights(tensors, "safetensors", prefix, metadata, tied=bool(noted.get("tied")))


def _plain(entries: Iterable[tuple[str, Mapping[str, Any]]]) -> bool:
    """Whether all entries have types that are known here, and names that no other tool gives to parts."""
    return all(entry["dtype"] in _TYPES and not _OTHER_TOOLS.fullmatch(name) for name, entry in entries)


def _sparse_weights(
    metadata: Mapping[str, str], entries: Mapping[str, Any], data: NDArray[np.uint8]
) -> StoredWeights | None:
    try:
        header = parse(
            metadata, {name: (part["dtype"], tuple(part["shape"])) for name, part in entries.items()}
        )
        tensors = {name: _coded(name, entry, entries, data) for name, entry in header.entries.items()}
    except (HeaderError, MaskError):
        return None
    found = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    if len(found) < len(tensors) or any(_OTHER_TOOLS.fullmatch(name) for name in tensors):
        return None
    masks = {
        name: tensor.code
        for name, tensor in found.items()
        if isinstance(tensor, CodedArray) and (coding := header.entries[name].coding) and coding.masked
    }
    return StoredWeights(
        found | {name: found[first] for name, first in header.tied.items()},
        "sparse file",
        metadata=header.metadata,
        masks=masks,
        record=header.record is not None,
        tied=bool(header.tied),
    )


def _coded(
    name: str, entry: Entry, entries: Mapping[str, Any], data: NDArray[np.uint8]
) -> Array | CodedArray | None:
    """Return a tensor of a sparse file; None where its values need PyTorch, or do not match their checksum."""
    coding = entry.coding
    if entry.dtype not in _TYPES or (coding is not None and coding.values != entry.dtype):
        return None
    parts = [data[slice(*entries[part]["data_offsets"])] for part in entry.parts(name)]
    crc = 0
    for part in parts:
        crc = zlib.crc32(part.data, crc)
    if crc != entry.crc32:
        return None
    dtype, stored = _TYPES[entry.dtype]
    if coding is None:
        return Array(dtype, entry.shape, parts[0].view(stored))
    values, mask = parts
    code = RiceCode(entry.numel, coding.kept, coding.parameter, coding.complement, mask[: coding.mask_bytes])
    decode(code)  # refuses a code that is not valid
    return CodedArray(dtype, entry.shape, code, values.view(f"i{np.dtype(stored).itemsize}"))


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
