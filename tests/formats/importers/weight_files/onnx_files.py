"""ONNX files, made with onnx itself."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.formats.checkpoints import source

from gpmt.formats.checkpoint import Checkpoint
from gpmt.formats.importers.weight_files import onnx as importer

onnx = pytest.importorskip("onnx", reason="reads and makes the files")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402


def write(
    path: Path,
    initialisers: list[Any],
    sparse: Any = (),
    *,
    nodes: Any = (),
    producer_name: str = "us",
    **options: Any,
) -> Path:
    graph = helper.make_graph(
        list(nodes), "graph", [], [], initializer=initialisers, sparse_initializer=list(sparse)
    )
    opset = [helper.make_opsetid("", 18)]
    model = helper.make_model(graph, producer_name=producer_name, opset_imports=opset)
    onnx.save_model(model, path, **options)
    return path


def constant(name: str, **value: Any) -> Any:
    return helper.make_node("Constant", [], [name], **value)


def write_constants(path: Path, tensors: dict[str, Any], **options: Any) -> Path:
    """Write tensors as nodes, as the exporters of Paddle and other libraries do."""
    return write(path, [], nodes=[constant(name, value=proto) for name, proto in tensors.items()], **options)


def read(path: Path) -> Checkpoint:
    return importer.read(source(path))


def known(path: Path) -> bool:
    return importer.recognises(source(path))


def external(**entries: str) -> Any:
    """A tensor of six float32 in another file."""
    proto = TensorProto(
        name="w", data_type=TensorProto.FLOAT, dims=[2, 3], data_location=TensorProto.EXTERNAL
    )
    for key, value in entries.items():
        proto.external_data.add(key=key, value=value)
    return proto


def sparse(dims: list[int], indices: Any, values: list[float], name: str = "w") -> Any:
    made = onnx.SparseTensorProto(dims=dims)
    made.values.CopyFrom(numpy_helper.from_array(np.array(values, dtype=np.float32), name))
    made.indices.CopyFrom(numpy_helper.from_array(np.array(indices, dtype=np.int64), ""))
    return made


def changed(**fields: Any) -> Any:
    proto = helper.make_tensor("w", TensorProto.FLOAT, [2, 3], bytes(24), raw=True)
    for field, value in fields.items():
        if field == "dims":
            proto.dims[:] = value
        else:
            setattr(proto, field, value)
    return proto
