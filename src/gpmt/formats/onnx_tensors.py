"""The tensors of ONNX files: dense, sparse, or in files beside them, within a limit of memory."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gpmt.errors import CheckpointError
from gpmt.formats.named_files import named_file
from gpmt.formats.short_repr import short_repr

# TensorProto.DataType -> the type; onnx itself knows which field holds its numbers where they are not raw bytes.
TYPES = {
    1: torch.float32,
    2: torch.uint8,
    3: torch.int8,
    4: torch.uint16,
    5: torch.int16,
    6: torch.int32,
    7: torch.int64,
    9: torch.bool,
    10: torch.float16,
    11: torch.float64,
    12: torch.uint32,
    13: torch.uint64,
    16: torch.bfloat16,
}
FLOATING = {1, 10, 11, 16, 17, 18, 19, 20, 23, 24}
"""Floating types, those of 8 and 4 bits included."""
_BITS = {torch.float16: np.uint16, torch.bfloat16: np.uint16, torch.bool: np.uint8}
# How much larger than its file the dense form of sparse tensors may be; 99.9 % sparse ones take 1/330 of it.
_GROWTH, _SMALL = 1024, 2**26


def load_proto(path: Path) -> Any:
    """Return the ModelProto of a file, without what other files hold.

    Raises `CheckpointError` where it cannot be read, or is damaged.
    """
    import onnx

    try:
        return onnx.load_model(path, format="protobuf", load_external_data=False)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}; check the path") from None
    except Exception as error:  # the parser of protobuf has an error class for each of its implementations
        raise CheckpointError(
            f"{path} is truncated or damaged ({type(error).__name__}); copy or export it again"
        ) from None


class TensorReader:
    """Makes tensors of a file's TensorProtos, within a limit of memory.

    Data in other files are mapped, so that they are read when they are used.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files: dict[Path, Tensor] = {}
        self.budget = _SMALL + _GROWTH * path.stat().st_size

    def dense(self, given: str, proto: Any) -> Tensor:
        """Return the tensor of a TensorProto, in its shape; errors call it by the name that is given."""
        name, shape = short_repr(given), tuple(proto.dims)
        if proto.data_type not in TYPES:
            raise CheckpointError(
                f"{self.path} has {name} in the ONNX type {_type_name(proto.data_type)}, which is not read; export "
                "the network in a plain floating type"
            )
        dtype = TYPES[proto.data_type]
        numel = math.prod(shape)
        if any(length < 0 for length in shape) or numel >= 2**62:
            raise CheckpointError(f"{self.path} gives {name} the shape {list(shape)}; export it again")
        if proto.data_location == 1:
            flat = self._external(name, proto, dtype, numel)
        elif proto.HasField("raw_data"):
            flat = _from_bytes(proto.raw_data, dtype)
        else:
            flat = _from_numbers(proto, dtype)
        if flat is None or flat.numel() != numel:
            raise CheckpointError(
                f"{self.path} has data of another size for {name} than its shape {list(shape)} needs; export it again"
            )
        if dtype == torch.bool:  # whose bytes may be any in a damaged file
            flat = flat.view(torch.uint8) != 0
        return flat.view(shape)

    def sparse(self, given: str, proto: Any) -> Tensor:
        """Return the dense form of a SparseTensorProto, +0.0 where it stores nothing."""
        name, shape = short_repr(given), tuple(proto.dims)
        values, indices = self.dense(given, proto.values), self.dense(given, proto.indices)
        numel = math.prod(shape)
        self.budget -= numel * values.element_size()
        if not shape or any(length < 1 for length in shape) or self.budget < 0:
            raise CheckpointError(
                f"{self.path} gives the sparse {name} the shape {list(shape)}, which is too large for so small a "
                "file; export it densely"
            )
        count = values.numel()
        if indices.dtype != torch.int64 or indices.shape not in ((count,), (count, len(shape))):
            raise CheckpointError(
                f"{self.path} has no index for each value of the sparse {name}; export it again"
            )
        if indices.ndim == 2:
            sizes = torch.tensor(shape, device="cpu")
            steps = torch.tensor([math.prod(shape[axis + 1 :]) for axis in range(len(shape))], device="cpu")
            inside = bool(((indices >= 0) & (indices < sizes)).all())
            indices = (indices * steps).sum(1)
        else:
            inside = bool(((indices >= 0) & (indices < numel)).all())
        if not inside:
            raise CheckpointError(f"{self.path} has an index outside the sparse {name}; export it again")
        dense = torch.zeros(numel, dtype=values.dtype, device="cpu")
        dense[indices] = values.reshape(-1)
        return dense.view(shape)

    def _external(self, name: str, proto: Any, dtype: torch.dtype, numel: int) -> Tensor | None:
        """Return the elements that another file holds, from `offset` on; None where their length does not fit."""
        entries = {entry.key: entry.value for entry in proto.external_data}
        path = named_file(self.path.parent, entries.get("location"), self.path)
        if path not in self.files:
            size = path.stat().st_size
            self.files[path] = (
                torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8)
                if size
                else torch.empty(0, dtype=torch.uint8, device="cpu")
            )
        data = self.files[path]
        try:
            offset = int(entries.get("offset", "0"))
            length = int(entries.get("length", numel * dtype.itemsize))
        except ValueError:
            offset = length = -1
        if offset < 0 or length < 0 or offset + length > data.numel():
            raise CheckpointError(
                f"{self.path} looks for {name} past the end of {path}; copy or export both again"
            )
        if length != numel * dtype.itemsize:
            return None
        part = data[offset : offset + length]
        if offset % dtype.itemsize:
            self.budget -= length
            if self.budget < 0:
                raise CheckpointError(f"{self.path} reads parts of {path} over and over; export it again")
            part = part.clone()
        return part.view(dtype)


def _from_bytes(raw: bytes, dtype: torch.dtype) -> Tensor | None:
    if not raw:
        return torch.empty(0, dtype=dtype, device="cpu")
    return None if len(raw) % dtype.itemsize else torch.frombuffer(bytearray(raw), dtype=dtype)


def _from_numbers(proto: Any, dtype: torch.dtype) -> Tensor:
    """Return the tensor of a TensorProto's field of numbers; 16-bit floats are in it as their bits."""
    import onnx

    wide = np.array(getattr(proto, onnx.helper.tensor_dtype_to_field(proto.data_type)))
    bits = _BITS.get(dtype)
    if bits is None:
        return torch.from_numpy(wide.astype(str(dtype).removeprefix("torch.")))
    return torch.from_numpy(wide.astype(np.int64).astype(bits)).view(dtype)


def _type_name(number: int) -> str:
    import onnx

    try:
        return str(onnx.TensorProto.DataType.Name(number))
    except ValueError:
        return str(number)
