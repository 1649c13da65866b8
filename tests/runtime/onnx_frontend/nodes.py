"""ONNX files of a few nodes, and a comparison of the network that they become with ONNX Runtime."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import gpmt
from gpmt.runtime.onnx_frontend.network import OnnxNetwork
from gpmt.runtime.onnx_frontend.open import open_onnx

onnx = pytest.importorskip("onnx", reason="makes the files")
ort = pytest.importorskip("onnxruntime", reason="runs the files")
from onnx import helper, numpy_helper  # noqa: E402

Arrays = Mapping[str, np.ndarray]
TensorProto = onnx.TensorProto
OPSETS = (9, 11, 13, 18, 21)


def noise(*shape: int, seed: int = 0, dtype: Any = np.float32) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def node(operator: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> Any:
    return helper.make_node(operator, inputs, outputs, name=f"the_{operator.lower()}", **attributes)


def write(
    path: Path,
    nodes: Sequence[Any],
    inputs: Arrays | Mapping[str, tuple[int, Sequence[Any]]],
    constants: Arrays | None = None,
    *,
    outputs: Sequence[str] = ("y",),
    opset: int = 18,
    functions: Sequence[Any] = (),
    ir_version: int | None = None,
    inferred: bool = True,
    **fields: Any,
) -> Path:
    """Write a file; an input is an array, or its type and shape; `inferred` gives outputs their types."""
    given = []
    for name, value in inputs.items():
        kind, shape = (
            (helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
            if isinstance(value, np.ndarray)
            else value
        )
        given.append(helper.make_tensor_value_info(name, kind, shape))
    held = [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()]
    results = [helper.make_empty_tensor_value_info(name) for name in outputs]
    seen: dict[str, int] = {}
    for one in nodes:
        seen[one.name] = seen.get(one.name, -1) + 1
        one.name += f"_{seen[one.name]}" if seen[one.name] else ""
    graph = helper.make_graph(list(nodes), "graph", given, results, initializer=held)
    domains = {function.domain for function in functions}
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    model = helper.make_model(graph, opset_imports=imports, functions=list(functions), **fields)
    model.ir_version = ir_version or 8
    onnx.save(onnx.shape_inference.infer_shapes(model) if inferred else model, path)
    return path


def by_runtime(path: Path, inputs: Arrays) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    # Its fusion of layer norms takes any power for a square.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, dict(inputs))


def results(found: Any) -> list[np.ndarray]:
    parts = list(found.values()) if isinstance(found, dict) else [found]
    return [part.detach().numpy() for part in parts]


def assert_close(found: Sequence[np.ndarray], expected: Sequence[np.ndarray], tolerance: float) -> None:
    assert [(a.shape, a.dtype) for a in found] == [(a.shape, a.dtype) for a in expected]
    for one, other in zip(found, expected, strict=True):
        scale = float(np.abs(other[np.isfinite(other)]).max(initial=1e-3)) if other.dtype.kind == "f" else 1
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * scale)


def check(
    path: Path,
    nodes: Sequence[Any] | Any,
    inputs: Arrays,
    constants: Arrays | None = None,
    *,
    compiled: bool = False,
    native: bool = False,
    tolerance: float = 2e-6,
    **options: Any,
) -> OnnxNetwork:
    """Compare what ONNX Runtime makes of nodes with what the network of the file makes, and its program."""
    listed = nodes if isinstance(nodes, Sequence) else [nodes]
    write(path, listed, inputs, constants, **options)
    expected = by_runtime(path, inputs)
    network = open_onnx(path)
    tensors = [torch.from_numpy(value) for value in inputs.values()]
    assert_close(results(network(*tensors)), expected, tolerance)
    if compiled or native:
        program = gpmt.compile(network, tensors, threads=1, tune=False)
        assert_close(results(program(*tensors)), expected, tolerance)
        assert not (native and program.fallbacks)
    return network
