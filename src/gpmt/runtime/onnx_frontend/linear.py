"""Products of matrices."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from gpmt.runtime.onnx_frontend.call import Call, NotSupported
from gpmt.runtime.onnx_frontend.linear_layers import MERGED
from gpmt.runtime.onnx_frontend.registry import operator


@operator("MatMul", 1, 9, 13)
def _matmul(call: Call) -> Tensor:
    return torch.matmul(call.tensor(0), call.tensor(1))


@operator("Gemm", 7, 9, 11, 13)
def _gemm(call: Call) -> Tensor:
    one, other, added = call.tensor(0), call.tensor(1), call.optional(2)
    alpha, beta = call.real("alpha", 1.0), call.real("beta", 1.0)
    if call.integer("transA", 0):
        one = one.t()
    transposed = other if call.integer("transB", 0) else other.t()
    if one.ndim != 2 or other.ndim != 2:
        raise NotSupported(f"its inputs have {one.ndim} and {other.ndim} dimensions, not 2")
    if alpha != 1:
        # Of two factors the constant one, so that the other stays as it is.
        one, transposed = (one, transposed * alpha) if call.is_known(1) else (one * alpha, transposed)
    if added is None or beta == 0:
        return F.linear(one, transposed)
    if beta != 1:
        added = added * beta
    columns = transposed.shape[0]
    if added.numel() in (1, columns) and added.shape[-1:] in ((1,), (columns,), ()):
        return F.linear(one, transposed, added.reshape(-1).expand(columns))
    return F.linear(one, transposed) + added


@operator(MERGED, 0)
def _linear(call: Call) -> Tensor:
    """MatMul and a sum, which `linear_layers` makes one."""
    source, weight, bias = (call.tensor(index) for index in range(3))
    if source.ndim < bias.ndim:
        return torch.matmul(source, weight) + bias
    return F.linear(source, weight.t(), bias.reshape(-1))


@operator("Einsum", 12, 28)
def _einsum(call: Call) -> Tensor:
    equation = call.text("equation", "")
    if len(equation) > 1000 or len(call) > 16:
        raise NotSupported("its equation is too long")
    return torch.einsum(equation, *call.all())
