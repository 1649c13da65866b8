"""The header of a sparse file, which describes its tensors; every claim is checked before it is used."""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from gpmt.formats.masks import rice
from gpmt.formats.masks.strict_json import read_json

FORMAT = "gpmt-sparse"
VERSION = 1

Values = Literal["exact", "fp16", "bf16", "int8"]

SIZES = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 8),
    **dict.fromkeys(("F32", "I32", "U32"), 4),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 2),
    **dict.fromkeys(("F8_E4M3", "F8_E5M2", "I8", "U8", "BOOL"), 1),
}
"""Bytes of a value of each type, as safetensors names them."""
_ENTRIES = "entries_crc32"
_FLOATS = ("F64", "F32", "F16", "BF16")
_MAX_BYTES = 1 << 62
_MAX_DIMENSIONS = 64  # as many as PyTorch has


class HeaderError(ValueError):
    """An invalid header; the reader adds the name of the file."""


@dataclass(frozen=True)
class Coding:
    """How the kept values and the mask of one tensor are stored.

    Attributes:
        kept: number of kept weights, zeros among them where a mask keeps them.
        parameter, complement: of the Rice code, see `gpmt.formats.masks.rice.RiceCode`.
        mask_bytes: length of the Rice code; the entry itself is padded with zeros to a multiple of eight.
        values: type of the stored values: that of the tensor, "F16", "BF16", or "I8" for 8 bits with scales.
        error: largest |stored − original| of the tensor; 0.0 where nothing was rounded.
        masked: whether the mask was given as such, rather than read off the zeros.
    """

    kept: int
    parameter: int
    complement: bool
    mask_bytes: int
    values: str
    error: float = 0.0
    masked: bool = False

    def to_json(self, entry: Entry) -> dict[str, Any]:
        """Return the entry of one tensor in the JSON document ``layout``; defaults are left out."""
        found = {
            "shape": list(entry.shape),
            "rice": self.parameter,
            "bytes": self.mask_bytes,
            "crc32": f"{entry.crc32:08x}",
        }
        unusual = {
            "complement": self.complement,
            "dtype": entry.dtype if entry.dtype != self.values else None,
            "error": self.error,
            "masked": self.masked,
        }
        return found | {key: value for key, value in unusual.items() if value}


@dataclass(frozen=True)
class Entry:
    """One tensor: its type (as safetensors names it), shape, checksum of its stored bytes, and coding if sparse."""

    dtype: str
    shape: tuple[int, ...]
    crc32: int
    coding: Coding | None = None

    @property
    def numel(self) -> int:
        """Number of weights."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the dense tensor."""
        return self.numel * SIZES[self.dtype]

    def parts(self, name: str) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Return what the container holds for this tensor: entry name -> (type, shape), in the file's order."""
        if self.coding is None:
            return {name: (self.dtype, self.shape)}
        parts: dict[str, tuple[str, tuple[int, ...]]] = {}
        if self.coding.values == "I8" != self.dtype:
            parts[f"{name}:scales"] = ("F32", (2, self.shape[0]))
        parts[f"{name}:values"] = (self.coding.values, (self.coding.kept,))
        head = sum(math.prod(shape) * SIZES[dtype] for dtype, shape in parts.values())
        parts[f"{name}:mask"] = ("U8", (self.coding.mask_bytes + -(head + self.coding.mask_bytes) % 8,))
        return parts


@dataclass(frozen=True)
class Header:
    """The header of a file: tensors by name in the network's order, further names of tied ones, and notes.

    Attributes:
        entries: name -> entry.
        tied: further name -> the name in `entries` whose tensor it shares.
        metadata: strings of the user's.
        record: what a run of gpmt noted of its network, or None.
    """

    entries: Mapping[str, Entry]
    tied: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    record: Mapping[str, Any] | None = None

    def dump(self) -> dict[str, str]:
        """Return the container's metadata."""
        tensors = {
            name: entry.coding.to_json(entry) if entry.coding else f"{entry.crc32:08x}"
            for name, entry in self.entries.items()
        }
        notes = {"tied": self.tied, "metadata": self.metadata, "record": self.record}
        document = {"tensors": tensors} | {key: value for key, value in notes.items() if value}
        text = json.dumps(document, separators=(",", ":"))
        return {
            "format": FORMAT,
            "version": str(VERSION),
            "layout": text,
            "crc32": _checksum(text),
            _ENTRIES: _checksum(self._entries()),
        }

    def _entries(self) -> str:
        """Return the types and shapes of all entries, such as "F32[2,3]U8[40]", in the order of the tensors."""
        parts = (part for name, entry in self.entries.items() for part in entry.parts(name).values())
        return "".join(f"{dtype}[{','.join(map(str, shape))}]" for dtype, shape in parts)


def parse(metadata: Mapping[str, str], parts: Mapping[str, tuple[str, tuple[int, ...]]]) -> Header:
    """Read the header in a container's metadata, and check it against the container's own entries.

    Nothing is allocated because of the header alone: every type, shape and length must be that of an entry, whose
    bytes the container has. Raises `HeaderError`, saying what is wrong, where it is not valid.
    """
    version, text = metadata.get("version"), metadata.get("layout", "")
    if version != str(VERSION):
        raise HeaderError(f"has version {version}, but this gpmt reads version {VERSION}; use a newer gpmt")
    if _checksum(text) != metadata.get("crc32"):
        raise HeaderError("has a damaged header (its checksum does not match); copy or download it again")
    try:
        document = read_json(text)
        entries = {name: _entry(name, value, parts) for name, value in document["tensors"].items()}
        header = Header(
            entries,
            _strings(document.get("tied", {})),
            _strings(document.get("metadata", {})),
            document.get("record"),
        )
        if "record" in document and not isinstance(header.record, dict):
            raise HeaderError("has a record that is not a mapping; write it again")
    except HeaderError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise HeaderError(f"has a header that is not valid ({error!r}); write it again") from None
    claimed = [part for name, entry in entries.items() for part in entry.parts(name)]
    if len(claimed) != len(set(claimed)) or set(claimed) != set(parts):
        odd = min(set(claimed) ^ set(parts), default="one")
        raise HeaderError(f"has a header that does not match its entries ({odd}); write it again")
    # Files of earlier writers have no such checksum.
    if metadata.get(_ENTRIES, expected := _checksum(header._entries())) != expected:
        raise HeaderError(
            "has damaged types or shapes (their checksum does not match); copy or download it again"
        )
    for name, target in header.tied.items():
        if target not in entries or name in entries:
            raise HeaderError(f"ties {name} to {target}, which it does not hold; write it again")
    return header


def _entry(name: str, value: Any, parts: Mapping[str, tuple[str, tuple[int, ...]]]) -> Entry:
    if isinstance(value, str):
        if name not in parts:
            raise HeaderError(f"lacks the tensor {name}; copy or download it again")
        dtype, shape = parts[name]
        if dtype not in SIZES:
            raise HeaderError(f"holds {name} as {dtype}, which this gpmt does not know; use a newer gpmt")
        return Entry(dtype, shape, _crc32(value))
    stored, kept = parts.get(f"{name}:values", ("", ()))
    if len(kept) != 1 or f"{name}:mask" not in parts:
        raise HeaderError(f"lacks the values or the mask of {name}; copy or download it again")
    coding = Coding(
        kept=kept[0],
        parameter=_count(value["rice"]),
        complement=_flag(value.get("complement", False)),
        mask_bytes=_count(value["bytes"]),
        values=stored,
        error=_number(value.get("error", 0.0)),
        masked=_flag(value.get("masked", False)),
    )
    shape = _shape(value["shape"])
    entry = Entry(value.get("dtype", stored), shape, _crc32(value["crc32"]), coding)
    if entry.dtype not in SIZES or stored not in SIZES:
        raise HeaderError(f"holds {name} as {stored} for {entry.dtype}, which this gpmt does not know")
    rounded, fewer = coding.values != entry.dtype, SIZES[stored] < SIZES[entry.dtype]
    if rounded and not (entry.dtype in _FLOATS and coding.values in ("F16", "BF16", "I8") and fewer):
        raise HeaderError(f"claims to hold {name} of type {entry.dtype} as {coding.values}; write it again")
    if rounded and coding.values == "I8" and len(entry.shape) < 2:
        raise HeaderError(f"claims scales for {name}, which has no channels; write it again")
    if coding.kept > entry.numel or coding.mask_bytes < rice.index_bytes(entry.numel):
        raise HeaderError(
            f"claims {coding.kept:,} of {entry.numel:,} weights for {name}, with a mask of {coding.mask_bytes:,} "
            "bytes; write it again"
        )
    if not math.isfinite(coding.error) or coding.error < 0:
        raise HeaderError(f"claims an error of {coding.error} for {name}; write it again")
    for part, expected in entry.parts(name).items():
        if parts.get(part) != expected:
            found = "{} {}".format(*parts[part]) if part in parts else "nothing"
            raise HeaderError(
                f"holds {found} as {part} where its header needs {expected[0]} {list(expected[1])}; write it again"
            )
    return entry


def _checksum(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"


def _crc32(value: Any) -> int:
    if not isinstance(value, str) or not re.fullmatch("[0-9a-f]{8}", value):
        raise HeaderError(f"has a header with {str(value)[:40]!r} for a checksum; write it again")
    return int(value, 16)


def _number(value: Any) -> float:
    if type(value) not in (int, float):
        raise HeaderError(f"has a header with {str(value)[:40]!r} for a number; write it again")
    return float(value)


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < _MAX_BYTES:
        raise HeaderError(f"has a header with {str(value)[:40]!r} for a count; write it again")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise HeaderError(f"has a header with {str(value)[:40]!r} for true or false; write it again")
    return value


def _shape(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) > _MAX_DIMENSIONS:
        raise HeaderError("has a header with a shape that is not a list of a few numbers; write it again")
    shape = tuple(map(_count, value))
    if math.prod(max(size, 1) for size in shape) * 8 > _MAX_BYTES:
        raise HeaderError(f"has a header with the shape {list(shape)}; write it again")
    return shape


def _strings(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise HeaderError("has a header with values that are not strings; write it again")
    return value
