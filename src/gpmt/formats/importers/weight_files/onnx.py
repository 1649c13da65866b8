"""The weights of an ONNX file: its initialisers and constants, dense, sparse, or in files beside it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gpmt.errors import CheckpointError
from gpmt.formats.checkpoint import Checkpoint
from gpmt.formats.importers.source import Source
from gpmt.formats.named_files import named_file
from gpmt.formats.short_repr import short_repr

NAME = "ONNX"

# The fields of a ModelProto and their wire types: 0 is a number, 2 has a length.
_FIELDS = {1: 0, 2: 2, 3: 2, 4: 2, 5: 0, 6: 2, 7: 2, 8: 2, 14: 2, 20: 2, 25: 2, 26: 2}
_GRAPH = 7
_STEPS = 10_000

# TensorProto.DataType -> the type; onnx itself knows which field holds its numbers where they are not raw bytes.
_TYPES = {
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
_FLOATING = {1, 10, 11, 16, 17, 18, 19, 20, 23, 24}
"""Floating types, those of 8 and 4 bits included."""
_BITS = {torch.float16: np.uint16, torch.bfloat16: np.uint16, torch.bool: np.uint8}
# How much larger than its file the dense form of sparse tensors may be; 99.9 % sparse ones take 1/330 of it.
_GROWTH, _SMALL = 1024, 2**26


def recognises(source: Source) -> bool:
    """Tell whether a file is an ONNX model: a chain of the fields that one has, a graph among them.

    Most other files are ruled out by their first byte. A file that is cut short inside its graph is recognised too.
    """
    if source.is_hub_folder or source.format is not None or not source.head:
        return False
    if _FIELDS.get(source.head[0] >> 3) != source.head[0] & 7:
        return False
    with source.path.open("rb") as file:
        size, position = source.path.stat().st_size, 0
        seen = set()
        for _ in range(_STEPS):
            file.seek(position)
            field, used = _varint(file.read(10))
            if used == 0 or _FIELDS.get(field >> 3) != field & 7:
                return False
            position += used
            file.seek(position)
            value, used = _varint(file.read(10))
            if used == 0:
                return False
            position += used + (value if field & 7 else 0)
            seen.add(field >> 3)
            if position >= size:
                return _GRAPH in seen
    return False


def read(source: Source) -> Checkpoint:
    """Read the initialisers of the main graph under their names, in the file's order, and then its constants.

    Some exporters write weights as nodes of the kind Constant. Those that hold floating numbers of one or more
    dimensions are read under the names of their outputs, unless PyTorch wrote the file and its initialisers hold
    weights: its constants are then no parameters.

    Weights lie as the file has them: those of MatMul, and of Gemm without transB, are transposed against
    PyTorch's. Sparse initialisers become dense. Data in other files are mapped, so that they are read when they are
    used, and writing to the tensors leaves the files as they are.

    Raises `CheckpointError` for a damaged file, a name that is not UTF-8, a type of numbers that PyTorch or this
    reader does not have, and external data that are missing, too short, or outside the folder of the file.
    """
    import onnx

    path = source.path
    try:
        model = onnx.load_model(path, format="protobuf", load_external_data=False)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}; check the path") from None
    except Exception as error:  # the parser of protobuf has an error class for each of its implementations
        raise CheckpointError(
            f"{path} is truncated or damaged ({type(error).__name__}); copy or export it again"
        ) from None
    reader = _Reader(path)
    state_dict: dict[str, Tensor] = {}
    for name, proto in _stored(model):
        if not name or not isinstance(name, str) or name in state_dict:
            why = "is there twice" if name in state_dict else "has no name"
            why = why if isinstance(name, str) else "has a name that is not UTF-8"
            raise CheckpointError(f"{path} has an initialiser {short_repr(name)} that {why}; export it again")
        sparse = hasattr(proto, "indices")
        state_dict[name] = reader.sparse(name, proto) if sparse else reader.dense(name, proto)
    if not state_dict:
        raise CheckpointError(
            f"{path} is an ONNX file without initialisers and constants; export it with its weights"
        )
    metadata = {
        "producer": f"{_text(model.producer_name)} {_text(model.producer_version)}".strip(),
        "opset": ", ".join(str(item.version) for item in model.opset_import if not item.domain),
    }
    return Checkpoint(path, state_dict, metadata=metadata, source=NAME)


def _stored(model: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the name and the TensorProto or SparseTensorProto of every tensor that is read."""
    graph = model.graph
    for proto in graph.initializer:
        yield proto.name, proto
    for proto in graph.sparse_initializer:
        yield proto.values.name, proto
    if model.producer_name == "pytorch" and _hold_weights(graph.initializer):
        return
    for node in graph.node:
        if node.op_type == "Constant" and node.domain in ("", "ai.onnx") and len(node.output) == 1:
            for proto in map(_constant, node.attribute):
                if proto is not None:
                    yield node.output[0], proto


def _hold_weights(initialisers: Iterable[Any]) -> bool:
    return any(len(proto.dims) > 1 and proto.data_type in _FLOATING for proto in initialisers)


def _constant(attribute: Any) -> Any:
    """Return the floating numbers of one or more dimensions that an attribute of a Constant holds, or None."""
    import onnx

    if attribute.name == "value_floats":
        numbers = attribute.floats
        return onnx.TensorProto(data_type=1, dims=[len(numbers)], float_data=numbers)
    if attribute.name == "value":
        tensor = attribute.t
        return tensor if tensor.dims and tensor.data_type in _FLOATING else None
    if attribute.name == "sparse_value":
        matrix = attribute.sparse_tensor
        return matrix if matrix.dims and matrix.values.data_type in _FLOATING else None
    return None


def _text(value: Any) -> str:
    """Return a text of a file; what is not UTF-8 comes as bytes."""
    return value if isinstance(value, str) else repr(value)


class _Reader:
    """Makes tensors of a file's TensorProtos, within a limit of memory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files: dict[Path, Tensor] = {}
        self.budget = _SMALL + _GROWTH * path.stat().st_size

    def dense(self, given: str, proto: Any) -> Tensor:
        """Return the tensor of a TensorProto, in its shape; errors call it by the name that is given."""
        name, shape = short_repr(given), tuple(proto.dims)
        if proto.data_type not in _TYPES:
            raise CheckpointError(
                f"{self.path} has {name} in the ONNX type {_type_name(proto.data_type)}, which is not read; export "
                "the network in a plain floating type"
            )
        dtype = _TYPES[proto.data_type]
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


def _varint(data: bytes) -> tuple[int, int]:
    """Return a protobuf number and its length in bytes; (0, 0) where there is none."""
    value = 0
    for count, byte in enumerate(data, 1):
        value |= (byte & 127) << 7 * (count - 1)
        if byte < 128:
            return value, count
    return 0, 0
