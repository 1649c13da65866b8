"""Writing a sparse file: one tensor after another, so that memory does not grow with the network."""

from __future__ import annotations

import json
import math
import os
import zlib
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gpmt.arithmetic import ceil_div
from gpmt.atomic import atomic_path
from gpmt.core.memory import identity
from gpmt.core.missing_data import check_has_data
from gpmt.errors import CheckpointError, GpmtError, MaskError
from gpmt.formats.bits import SignedZeros, integers, keeps_signs, nonzero
from gpmt.formats.masks import rice
from gpmt.formats.masks.rice import Bits
from gpmt.formats.sparse.header import Coding, Entry, Header, Values
from gpmt.formats.sparse.types import CODES, DTYPES, check_dtype
from gpmt.formats.sparse.values import Rounding, find_scales
from gpmt.masks import Masks
from gpmt.model_tools import not_a_network, unwrap

_STORED = {"fp16": "F16", "bf16": "BF16", "int8": "I8"}
_CHUNK = 16 * rice.BLOCK
_MAX_HEADER = 100_000_000  # of safetensors' own readers
_HEADER = 400  # bytes that a coded tensor adds to the header, about


@dataclass(frozen=True)
class SparseSize:
    """What a sparse file takes.

    Attributes:
        bytes: size of the file.
        dense_bytes: what its tensors take in memory, tied ones counted once.
        ideal_bytes: stored values, masks at the entropy of their densities, dense tensors.
        values, masks, dense, header: bytes of the file by what they are for.
        error: largest |stored − original| over all tensors; 0.0 where values are exact.
        negative_zeros: weights of −0.0 that are read back as 0.0.
    """

    bytes: int
    dense_bytes: int
    ideal_bytes: float
    values: int
    masks: int
    dense: int
    header: int
    error: float
    negative_zeros: int = 0

    def __str__(self) -> str:
        text = f"{self.bytes:,} bytes, {self.bytes / max(self.dense_bytes, 1):.1%} of dense"
        text += f"; largest rounding error {self.error:.3g}" if self.error else ""
        return text + (
            f"; negative zeros stored as 0.0: {self.negative_zeros:,}" if self.negative_zeros else ""
        )


def save_sparse(
    model: nn.Module | Mapping[str, Tensor],
    path: str | os.PathLike[str],
    *,
    masks: Masks | None = None,
    values: Values = "exact",
    signed_zeros: SignedZeros = "drop",
    metadata: Mapping[str, str] | None = None,
    record: Mapping[str, Any] | None = None,
) -> SparseSize:
    """Write the weights of a network to a file in which pruned weights take next to nothing, atomically.

    The file is a safetensors container that any reader can list; docs/format.md specifies it. Tensors are stored as
    kept values and a coded mask where that is smaller, and as they are otherwise; tied tensors are stored once. A
    weight is pruned if it is zero. Nothing is lost but the sign of −0.0, which is what ``weight * mask`` leaves of a
    negative weight: of tensors with a coded mask it is read back as 0.0, and the size returned counts how often.

    Args:
        model: a network, whose `state_dict` is taken, or a mapping of names to tensors on any device.
        path: file to write; by custom it ends in ``.sparse.safetensors``.
        masks: which weights are kept, where that shall be remembered beyond the zeros; kept weights may be zero.
        values: "exact" (lossless, the default); "fp16", "bf16" or "int8" store the kept values of coded float
            tensors of two or more dimensions in fewer bits. They are read in their former type; the file states
            the largest error.
        signed_zeros: "drop" (the default), or "keep": −0.0 counts as a kept weight, so that all bits come back; a
            file of many such zeros is several times as large.
        metadata: strings to keep in the file.
        record: what a run noted of its network (a plain JSON mapping).

    Raises:
        MaskError: masks that do not fit, or that prune a weight that is not zero (nor −0.0, if that is to be kept).
        WeightsError: a weight that does not survive `values`, such as one that overflows.
        CheckpointError: a tensor without data or of a type without a name, or an output that cannot be written.

    >>> import tempfile
    >>> from gpmt import load_sparse
    >>> weight = torch.zeros(64, 64)
    >>> weight[::8] = 0.5
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     size = save_sparse({"fc.weight": weight}, f"{folder}/a.sparse.safetensors")
    ...     torch.equal(load_sparse(f"{folder}/a.sparse.safetensors")["fc.weight"], weight)
    True
    >>> size.dense_bytes, size.values
    (16384, 2048)
    """
    if values not in get_args(Values):
        raise GpmtError(f"values is {values!r}, but must be one of {', '.join(get_args(Values))}")
    keep = keeps_signs(signed_zeros)
    if not isinstance(model, nn.Module | Mapping):
        raise CheckpointError(not_a_network(model))
    tensors = unwrap(model).state_dict() if isinstance(model, nn.Module) else model
    single, tied = _untie(tensors)
    given = _stored_masks(masks, tensors, tied)
    planned = {name: _plan(name, tensor, given.get(name), values, keep) for name, tensor in single.items()}
    _check_parts(planned)
    header = Header(planned, tied, dict(metadata or {}), record)
    _check_strings(header)
    reserved = len(_container_header(header))
    reserved += -reserved % 8
    if reserved > _MAX_HEADER:
        raise CheckpointError(
            f"{path} would need a header of {reserved:,} bytes, but safetensors allows {_MAX_HEADER:,}; save the "
            "network in parts"
        )
    with atomic_path(path) as temporary, temporary.open("r+b") as file:
        file.seek(reserved)
        writer = _Writer(file, keep)
        entries = dict(planned)
        for name in _order(planned):
            entries[name] = writer.write(name, single[name], given.get(name), planned[name])
        header = replace(header, entries=entries)
        written = _container_header(header)
        assert len(written) <= reserved, "no number is longer than was planned"
        file.seek(0)
        file.write((reserved - 8).to_bytes(8, "little") + written[8:].ljust(reserved - 8))
    return _size(header, reserved, writer.negative_zeros)


def _untie(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Split a state_dict into tensors that are stored, and further names of the same tensors."""
    single: dict[str, Tensor] = {}
    tied: dict[str, str] = {}
    first: dict[Hashable, str] = {}
    for name, value in tensors.items():
        if not isinstance(value, Tensor) or nn.parameter.is_lazy(value):
            raise CheckpointError(
                f"{name} is not a tensor with values ({type(value).__name__}); leave it out"
            )
        tensor = value.detach().resolve_conj().resolve_neg()
        check_has_data({name: tensor}, CheckpointError)
        if tensor.layout != torch.strided or tensor.is_quantized:
            raise CheckpointError(
                f"{name} is not a plain dense tensor ({tensor.layout}); convert it with to_dense()"
            )
        check_dtype(name, tensor.dtype)
        view = identity(tensor)
        if view in first:
            tied[name] = first[view]
        else:
            first[view] = name
            single[name] = tensor
    return single, tied


def _stored_masks(
    masks: Masks | None, tensors: Mapping[str, Tensor], tied: Mapping[str, str]
) -> dict[str, Bits]:
    """Return the bits of masks by the names that tensors are stored under."""
    if masks is None:
        return {}
    masks.fits(tensors)
    given: dict[str, Bits] = {}
    for name in masks:
        bits, stored = masks.packed(name).numpy(), tied.get(name, name)
        if stored in given and not np.array_equal(given[stored], bits):
            raise MaskError(
                f"{name} is the same tensor as {stored}, but their masks differ; give one mask for both"
            )
        given[stored] = bits
    return given


def _check_strings(header: Header) -> None:
    """Raise `CheckpointError` for names, metadata or a record that JSON in UTF-8 cannot hold."""
    names = [*header.entries, *header.tied, *header.metadata, *header.metadata.values()]
    try:
        for name in names:
            if not isinstance(name, str):
                raise CheckpointError(
                    f"names and metadata must be strings, but {name!r} is {type(name).__name__}"
                )
            name.encode()
        json.dumps(header.record, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(
            f"the names, metadata or record cannot be written as JSON in UTF-8 ({error})"
        ) from None


def _plan(name: str, tensor: Tensor, given: Bits | None, values: Values, signed_zeros: bool) -> Entry:
    """Decide whether a tensor is coded. Its entry's numbers are at least as long as those that come out."""
    dtype, shape = check_dtype(name, tensor.dtype), tuple(tensor.shape)
    dense = Entry(dtype, shape, 0)
    masked = given is not None
    kept = _count(_nonzero(tensor, signed_zeros) if given is None else given)
    stored = _stored(tensor, values)
    scales = 8 * len(tensor) if stored == "I8" != dtype else 0
    if kept * DTYPES[stored].itemsize + scales >= kept * DTYPES[dtype].itemsize:
        stored, scales = dtype, 0
    mask_bytes = math.ceil(1.05 * _entropy(kept, dense.numel)) + rice.index_bytes(dense.numel)
    if not masked and kept * DTYPES[stored].itemsize + scales + mask_bytes + _HEADER >= dense.nbytes:
        return dense
    # The longest that these numbers can become in the header: of no mask do the gaps take more bits than weights.
    longest = dense.numel // 8 + 9 * ceil_div(dense.numel, rice.BLOCK)
    error = 1.2345678901234567e-300 if stored != dtype else 0.0
    return Entry(dtype, shape, 0, Coding(kept, rice.MAX_PARAMETER, True, longest, stored, error, masked))


def _check_parts(entries: Mapping[str, Entry]) -> None:
    """Raise `CheckpointError` where a tensor's name is needed for a part of another's."""
    for name, entry in entries.items():
        for part in entry.parts(name):
            if (part in entries and part != name) or part == "__metadata__":
                raise CheckpointError(f"{part} cannot be the name of a tensor in a sparse file; rename it")


def _stored(tensor: Tensor, values: Values) -> str:
    code = CODES[tensor.dtype]
    asked = _STORED.get(values, code)
    wide = tensor.dtype.is_floating_point and tensor.element_size() > DTYPES[asked].itemsize
    return asked if wide and tensor.ndim > 1 and code in ("F64", "F32", "F16", "BF16") else code


def _entropy(kept: int, numel: int) -> float:
    """Return N · H(density) / 8: the bytes that the mask of `kept` of `numel` independent weights takes at least."""
    shares = [count / numel for count in (kept, numel - kept) if count] if numel else []
    return -numel * sum(share * math.log2(share) for share in shares) / 8


def _order(entries: Mapping[str, Entry]) -> list[str]:
    """Return names in the order of the file: coded tensors, then dense ones, wide types first to stay aligned."""
    return sorted(
        entries, key=lambda name: (entries[name].coding is None, -DTYPES[entries[name].dtype].itemsize)
    )


def _nonzero(tensor: Tensor, signed_zeros: bool) -> Bits:
    """Return packed bits: 1 for the weights that are not zero, −0.0 among them where signs are kept."""
    pieces = torch.split(tensor.reshape(-1), _CHUNK)
    found = (nonzero(piece.cpu(), signed_zeros=signed_zeros) for piece in pieces)
    parts = [np.packbits(piece, bitorder="little") for piece in found]
    return np.concatenate(parts) if parts else np.zeros(0, np.uint8)


def _count(packed: Bits) -> int:
    return int(np.bitwise_count(packed).sum(dtype=np.int64))


def _container_header(header: Header) -> bytes:
    """Return the container's header, its length in front. Offsets follow the order of the file."""
    document: dict[str, Any] = {"__metadata__": header.dump()}
    end = 0
    for name in _order(header.entries):
        for part, (dtype, shape) in header.entries[name].parts(name).items():
            start, end = end, end + math.prod(shape) * DTYPES[dtype].itemsize
            document[part] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(document, separators=(",", ":")).encode()
    return len(text).to_bytes(8, "little") + text


class _Writer:
    """Writes the bytes of tensors one after another, and counts the zeros whose sign is not among them."""

    def __init__(self, file: BinaryIO, signed_zeros: bool) -> None:
        self.negative_zeros = 0
        self._file = file
        self._signed_zeros = signed_zeros
        self._crc = 0

    def write(self, name: str, tensor: Tensor, given: Bits | None, planned: Entry) -> Entry:
        """Write a tensor where the file stands, under the `given` mask if there is one, and return its entry."""
        self._crc = 0
        tensor = tensor.cpu().contiguous()
        if planned.coding is None:
            self._put(integers(tensor))
            return replace(planned, crc32=self._crc)
        coding = planned.coding
        packed = _nonzero(tensor, self._signed_zeros) if given is None else given
        if given is not None:
            _check_pruned(name, tensor, given)
        signs = _count(_nonzero(tensor, True) & ~packed)
        if signs and self._signed_zeros:
            raise MaskError(
                f"{name} is −0.0 in {signs:,} places that its mask prunes, so their signs cannot be kept; leave out "
                "the masks, or let the signs go"
            )
        self.negative_zeros += signs
        code = rice.encode(packed, tensor.numel())
        error = self._write_values(name, tensor, packed, coding.values)
        coding = replace(
            coding,
            parameter=code.parameter,
            complement=code.complement,
            mask_bytes=code.data.size,
            error=error,
        )
        entry = replace(planned, coding=coding)
        [padded] = list(entry.parts(name).values())[-1][1]
        self._put(code.data, np.zeros(padded - code.data.size, np.uint8))
        return replace(entry, crc32=self._crc)

    def _write_values(self, name: str, tensor: Tensor, packed: Bits, stored: str) -> float:
        """Write the kept values, scales first, and return the largest error."""
        scales = None
        if stored == "I8" != CODES[tensor.dtype]:
            scales = find_scales(name, tensor, packed)
            self._put(scales.numpy())
        rounding = Rounding(name, stored, tuple(tensor.shape), scales)
        error = 0.0
        for start, weights, bits in _pieces(tensor, packed):
            values, worst = rounding.store(weights, start, bits)
            error = max(error, worst)
            self._put(integers(values))
        return error

    def _put(self, *arrays: NDArray[Any]) -> None:
        for array in arrays:
            data = array.reshape(-1).view(np.uint8).data
            self._crc = zlib.crc32(data, self._crc)
            self._file.write(data)


def _pieces(tensor: Tensor, packed: Bits) -> Iterator[tuple[int, Tensor, Bits]]:
    """Yield flat stretches of a tensor: where they begin, their weights, and the bits of their mask."""
    for start in range(0, tensor.numel(), _CHUNK):
        weights = tensor.view(-1)[start : start + _CHUNK]
        yield start, weights, packed[start // 8 : (start + len(weights) + 7) // 8]


def _check_pruned(name: str, tensor: Tensor, packed: Bits) -> None:
    """Raise `MaskError` where a pruned weight is not zero; −0.0 is."""
    for _, weights, bits in _pieces(tensor, packed):
        kept = np.unpackbits(bits, count=len(weights), bitorder="little").view(bool)
        if ((weights != 0).numpy() & ~kept).any():
            raise MaskError(
                f"{name} has pruned weights that are not zero; apply the masks first with masks.apply_()"
            )


def _size(header: Header, header_bytes: int, negative_zeros: int) -> SparseSize:
    values = masks = dense = 0
    ideal, error = 0.0, 0.0
    for name, entry in header.entries.items():
        sizes = [math.prod(shape) * DTYPES[dtype].itemsize for dtype, shape in entry.parts(name).values()]
        if entry.coding is None:
            dense += entry.nbytes
        else:
            values += sum(sizes[:-1])
            masks += sizes[-1]
            ideal += _entropy(entry.coding.kept, entry.numel)
            error = max(error, entry.coding.error)
    total = sum(entry.nbytes for entry in header.entries.values())
    return SparseSize(
        header_bytes + values + masks + dense,
        total,
        ideal + values + dense,
        values,
        masks,
        dense,
        header_bytes,
        error,
        negative_zeros,
    )
