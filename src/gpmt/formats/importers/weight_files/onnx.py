"""The weights of an ONNX file: its initialisers and constants, dense, sparse, or in files beside it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor

from gpmt.errors import CheckpointError
from gpmt.formats.checkpoint import Checkpoint
from gpmt.formats.importers.source import Source
from gpmt.formats.onnx_tensors import FLOATING, TensorReader, load_proto
from gpmt.formats.short_repr import short_repr

NAME = "ONNX"

# The fields of a ModelProto and their wire types: 0 is a number, 2 has a length.
_FIELDS = {1: 0, 2: 2, 3: 2, 4: 2, 5: 0, 6: 2, 7: 2, 8: 2, 14: 2, 20: 2, 25: 2, 26: 2}
_GRAPH = 7
_STEPS = 10_000


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
    path = source.path
    model = load_proto(path)
    reader = TensorReader(path)
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
    return any(len(proto.dims) > 1 and proto.data_type in FLOATING for proto in initialisers)


def _constant(attribute: Any) -> Any:
    """Return the floating numbers of one or more dimensions that an attribute of a Constant holds, or None."""
    import onnx

    if attribute.name == "value_floats":
        numbers = attribute.floats
        return onnx.TensorProto(data_type=1, dims=[len(numbers)], float_data=numbers)
    if attribute.name == "value":
        tensor = attribute.t
        return tensor if tensor.dims and tensor.data_type in FLOATING else None
    if attribute.name == "sparse_value":
        matrix = attribute.sparse_tensor
        return matrix if matrix.dims and matrix.values.data_type in FLOATING else None
    return None


def _text(value: Any) -> str:
    """Return a text of a file; what is not UTF-8 comes as bytes."""
    return value if isinstance(value, str) else repr(value)


def _varint(data: bytes) -> tuple[int, int]:
    """Return a protobuf number and its length in bytes; (0, 0) where there is none."""
    value = 0
    for count, byte in enumerate(data, 1):
        value |= (byte & 127) << 7 * (count - 1)
        if byte < 128:
            return value, count
    return 0, 0
