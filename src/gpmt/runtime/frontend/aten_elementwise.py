"""ATen's operators on tensors of any shape: linear layers, activations, sums, products with constants, new shapes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from gpmt.runtime.frontend.builder import Arguments, Builder, Handler, Leave
from gpmt.runtime.ir.activation import ATEN_ACTIVATIONS, IDENTITY, Activation
from gpmt.runtime.ir.operators import Add, Affine, Linear, Multiply, Reshape
from gpmt.runtime.ir.values import Floats

_LARGEST = float(np.finfo(np.float32).max)
_HARDSIGMOID = 1 / 6, 1 / 2, Activation("clamp", 0.0, 1.0)


def _linear(b: Builder, a: Arguments, result: Tensor) -> None:
    _add_linear(b, a["input"], a["weight"], a["bias"], result, transposed=False)


def _addmm(b: Builder, a: Arguments, result: Tensor) -> None:
    if (a["beta"], a["alpha"]) != (1, 1):
        raise Leave("it is scaled")
    _add_linear(b, a["mat1"], a["mat2"], a["self"], result, transposed=True)


def _matmul(b: Builder, a: Arguments, result: Tensor) -> None:
    _add_linear(b, a["self"], a.get("other", a.get("mat2")), None, result, transposed=True)


def _add_linear(
    b: Builder, source: Tensor, weight: Any, bias: Tensor | None, result: Tensor, *, transposed: bool
) -> None:
    if source.ndim < 2 or weight.ndim != 2:
        raise Leave("it is not a batch of vectors times a matrix")
    name = b.vector(source)
    matrix = b.floats(weight, "weight")
    if transposed:
        # Without a copy where the network holds the weight as [out, in].
        held = b.constant(weight)
        assert held is not None
        matrix = np.ascontiguousarray(held.numpy().T)
    outputs = matrix.shape[0]
    offset = np.zeros(outputs, np.float32) if bias is None else b.floats(bias, "bias")
    if bias is not None and (bias.ndim > 2 or (bias.ndim == 2 and bias.shape[0] != 1)):
        raise Leave("its bias is a matrix")
    offset = np.broadcast_to(offset.reshape(-1), (outputs,)).copy()
    b.add(Linear(name, b.new(result, "linear"), matrix, offset, name=b.origin(weight)))


def _activation(target: str) -> Handler:
    def handle(b: Builder, a: Arguments, result: Tensor) -> None:
        found = ATEN_ACTIVATIONS[target](a)
        if found is None:
            raise Leave("there is no kernel for its bounds")
        source = a["self"]
        name = b.image(source)
        _affine(b, name, source, result, 1.0, 0.0, found)

    return handle


def _hardsigmoid(b: Builder, a: Arguments, result: Tensor) -> None:
    _affine(b, b.image(a["self"]), a["self"], result, *_HARDSIGMOID)


def _affine(
    b: Builder,
    name: str,
    source: Tensor,
    result: Tensor,
    scale: float | Floats,
    shift: float | Floats,
    then: Activation = IDENTITY,
) -> None:
    channels = source.shape[1]
    scales, shifts = (np.full(channels, part, np.float32) for part in (scale, shift))
    b.add(Affine(name, b.new(result, "affine" if then == IDENTITY else then.kind), scales, shifts, then))


def _add(sign: int) -> Handler:
    def handle(b: Builder, a: Arguments, result: Tensor) -> None:
        left, right, alpha = a["self"], a["other"], a.get("alpha", 1)
        if _per_channel(b, right, result):
            shift = sign * alpha * _numbers(b, right)
            _affine(b, _image_of(b, left, result), left, result, 1.0, shift)
        elif _per_channel(b, left, result) and alpha == 1:
            _affine(b, _image_of(b, right, result), right, result, float(sign), _numbers(b, left))
        elif alpha != 1 or sign != 1:
            raise Leave("one side is scaled")
        else:
            names = b.image(left), b.image(right)
            if left.shape != right.shape:
                raise Leave("its inputs have different shapes")
            b.add(Add(*names, b.new(result, "add")))

    return handle


def _subtract_from(b: Builder, a: Arguments, result: Tensor) -> None:
    if a["alpha"] != 1:
        raise Leave("one side is scaled")
    _add(-1)(b, {"self": a["other"], "other": a["self"]}, result)


def _multiply(b: Builder, a: Arguments, result: Tensor) -> None:
    for source, factor in ((a["self"], a["other"]), (a["other"], a["self"])):
        if _per_channel(b, factor, result):
            _affine(b, _image_of(b, source, result), source, result, _numbers(b, factor), 0.0)
            return
    names = [
        (tensor.shape, b.image(tensor)) for tensor in (a["self"], a["other"]) if isinstance(tensor, Tensor)
    ]
    for (shape, left), (factor, right) in (names, names[::-1]):
        if shape == result.shape and factor in (shape, (*shape[:2], 1, 1)):
            b.add(Multiply(left, right, b.new(result, "mul")))
            return
    raise Leave("its inputs have different shapes")


def _divide(b: Builder, a: Arguments, result: Tensor) -> None:
    if a.get("rounding_mode") is not None or not _per_channel(b, a["other"], result):
        raise Leave("there is no kernel for it")
    divisor = _numbers(b, a["other"]).astype(np.float64)
    with np.errstate(divide="ignore"):
        scale = 1 / divisor
    if np.any(np.abs(scale[np.isfinite(scale)]) > _LARGEST):
        raise Leave("the inverse of its divisor is too large")
    _affine(b, _image_of(b, a["self"], result), a["self"], result, scale, 0.0)


def _image_of(b: Builder, source: Any, result: Tensor) -> str:
    if not isinstance(source, Tensor) or source.shape != result.shape:
        raise Leave("its input is repeated")
    return b.image(source)


def _per_channel(b: Builder, factor: object, result: Tensor) -> bool:
    """Whether this is a number, or a constant with one number for each channel of a float32 image."""
    if result.ndim != 4 or result.dtype != torch.float32:
        return False
    if isinstance(factor, int | float):
        return True
    data = b.constant(factor)
    if data is None or not data.dtype.is_floating_point:
        return False
    shape = (1,) * (4 - data.ndim) + tuple(data.shape)
    return data.ndim <= 4 and shape[0] == shape[2] == shape[3] == 1


def _numbers(b: Builder, factor: Any) -> Any:
    if isinstance(factor, int | float):
        return np.float64(factor)
    data = b.constant(factor)
    assert data is not None
    return data.double().reshape(-1).numpy()


def _reshape(b: Builder, a: Arguments, result: Tensor) -> None:
    source = a["self"]
    name = b.vector(source)
    if result.dtype != source.dtype:
        raise Leave("it changes the type")
    if result.shape == source.shape:
        b.same(result, name)
    else:
        b.add(Reshape(name, b.new(result, "reshape")))


def _permute(b: Builder, a: Arguments, result: Tensor) -> None:
    """Moving dimensions of length 1 only is a new shape."""
    source = a["self"]
    order = list(range(source.ndim))
    if "dims" in a:
        order = [d % source.ndim for d in a["dims"]]
    elif "dim0" in a and source.ndim:
        one, two = a["dim0"] % source.ndim, a["dim1"] % source.ndim
        order[one], order[two] = order[two], order[one]
    else:
        order.reverse()
    long = [d for d in order if source.shape[d] > 1]
    if long != sorted(long):
        raise Leave("it moves numbers")
    _reshape(b, a, result)


def identity(b: Builder, a: Arguments, result: Tensor) -> None:
    """Take a result to be the input itself; raises `Leave` where shape, type or numbers differ."""
    source = a.get("self", a.get("input"))
    if a.get("train", a.get("training", False)):
        raise Leave("it is random")
    if not isinstance(source, Tensor) or (source.shape, source.dtype) != (result.shape, result.dtype):
        raise Leave("it changes shape or type")
    b.same(result, b.name(source))


def _copy(b: Builder, a: Arguments, result: Tensor) -> None:
    identity(b, {"self": a["src"]}, result)


HANDLERS: dict[str, Handler] = {
    **{name: _activation(name) for name in ATEN_ACTIVATIONS},
    **dict.fromkeys(
        (
            "view",
            "_unsafe_view",
            "reshape",
            "flatten",
            "unflatten",
            "squeeze",
            "unsqueeze",
            "view_as",
            "reshape_as",
        ),
        _reshape,
    ),
    **dict.fromkeys(("permute", "transpose", "t"), _permute),
    **dict.fromkeys(
        (
            *("alias", "clone", "contiguous", "detach", "expand", "expand_as", "lift_fresh", "positive"),
            *("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout"),
            *("to", "_to_copy", "type_as"),
        ),
        identity,
    ),
    "add": _add(1),
    "addmm": _addmm,
    "copy": _copy,
    "div": _divide,
    "divide": _divide,
    "hardsigmoid": _hardsigmoid,
    "linear": _linear,
    "matmul": _matmul,
    "mm": _matmul,
    "mul": _multiply,
    "multiply": _multiply,
    "rsub": _subtract_from,
    "sub": _add(-1),
    "subtract": _add(-1),
    "true_divide": _divide,
}
