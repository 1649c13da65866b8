"""ATen's products of vectors and a constant matrix, and of two values."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from gpmt.runtime.frontend.aten_attention import add_product
from gpmt.runtime.frontend.builder import Arguments, Builder, Unsupported
from gpmt.runtime.frontend.handlers import handles
from gpmt.runtime.ir.operators import Linear


@handles("linear")
def _linear(builder: Builder, arguments: Arguments, result: Tensor) -> None:
    _add_linear(builder, arguments["input"], arguments["weight"], arguments["bias"], result, transposed=False)


@handles("addmm")
def _addmm(builder: Builder, arguments: Arguments, result: Tensor) -> None:
    if (arguments["beta"], arguments["alpha"]) != (1, 1):
        raise Unsupported("it is scaled")
    _add_linear(builder, arguments["mat1"], arguments["mat2"], arguments["self"], result, transposed=True)


@handles("matmul", "mm")
def _matmul(builder: Builder, arguments: Arguments, result: Tensor) -> None:
    matrix: Tensor = arguments["other"] if "other" in arguments else arguments["mat2"]
    if builder.constant_data(matrix) is None and matrix.ndim > 2:
        add_product(builder, arguments["self"], matrix, result)
        return
    _add_linear(builder, arguments["self"], matrix, None, result, transposed=True)


def _add_linear(
    builder: Builder, source: Tensor, weight: Any, bias: Tensor | None, result: Tensor, *, transposed: bool
) -> None:
    if source.ndim < 2 or weight.ndim != 2:
        raise Unsupported("it is not a batch of vectors times a matrix")
    name = builder.float_value(source)
    matrix = builder.constant_array(weight, "weight")
    if transposed:
        # Without a copy where the network holds the weight as [out, in].
        data = builder.constant_data(weight)
        assert data is not None
        matrix = np.ascontiguousarray(data.numpy().T)
    outputs = matrix.shape[0]
    offset = np.zeros(outputs, np.float32) if bias is None else builder.constant_array(bias, "bias")
    if bias is not None and (bias.ndim > 2 or (bias.ndim == 2 and bias.shape[0] != 1)):
        raise Unsupported("its bias is a matrix")
    offset = np.broadcast_to(offset.reshape(-1), (outputs,)).copy()
    builder.add(
        Linear(name, builder.new_result(result, "linear"), matrix, offset, name=builder.state_name(weight))
    )
