"""ATen's slices, splits and concatenations."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from gpmt.runtime.frontend.aten_pooling import add_pool
from gpmt.runtime.frontend.aten_shapes import identity
from gpmt.runtime.frontend.aten_tokens import concat_tokens
from gpmt.runtime.frontend.builder import Arguments, Builder, Unsupported
from gpmt.runtime.frontend.handlers import handles, handles_all_results
from gpmt.runtime.ir.operators import Concat, Pool, Reshape, Slice


@handles("slice")
def _slice(builder: Builder, arguments: Arguments, result: Tensor) -> None:
    source, start, end, step = (arguments[name] for name in ("self", "start", "end", "step"))
    dim = arguments["dim"] % source.ndim
    if step == 1 and result.shape != source.shape:
        first = slice(start, end).indices(source.shape[dim])[0]
        builder.add(Slice(builder.float_value(source), builder.new_result(result, "slice"), first, dim))
        return
    if step == 1:
        identity(builder, arguments, result)
        return
    if source.ndim != 4 or dim < 2 or start or (end is not None and end < source.shape[dim]):
        raise Unsupported("there is no kernel for it")
    # Every n-th row or column: windows of one pixel.
    stride = (step, 1) if dim == 2 else (1, step)
    add_pool(builder, result, "slice", Pool(builder.image_value(source), "", "max", (1, 1), stride))


@handles("cat", "concat")
def _concat(builder: Builder, arguments: Arguments, result: Tensor) -> None:
    tensors = [tensor for tensor in arguments["tensors"] if tuple(tensor.shape) != (0,)]
    if len(tensors) == 1 and tensors[0].dtype == result.dtype:
        builder.set_value(result, builder.value_name(tensors[0]))
        return
    dim = arguments["dim"] % result.ndim
    if result.ndim == 3 and dim == 1 and concat_tokens(builder, tensors, result):
        return
    pixels = result.ndim == 4 and tuple(result.shape[2:]) == (1, 1)
    features = result.ndim > 1 and dim == result.ndim - 1 and not pixels
    if not features and (result.ndim, dim) != (4, 1):
        raise Unsupported("it is not along the channels")
    parts = tuple(builder.float_value(tensor) for tensor in tensors)
    builder.add(Concat(parts, builder.new_result(result, "cat"), 1 if result.ndim == 4 and dim == 1 else -1))


@handles_all_results("chunk", "split", "split_with_sizes", "tensor_split", "unsafe_chunk", "unsafe_split")
def _split(builder: Builder, arguments: Arguments, results: Sequence[Tensor]) -> None:
    source = arguments["self"]
    name, dim = builder.float_value(source), arguments["dim"] % source.ndim
    first = 0
    for result in results:
        builder.add(Slice(name, builder.new_result(result, "split"), first, dim))
        first += result.shape[dim]


@handles("select")
def _select(builder: Builder, arguments: Arguments, result: Tensor) -> None:
    source = arguments["self"]
    dim = arguments["dim"] % source.ndim
    _add_select(builder, source, dim, arguments["index"] % source.shape[dim], result)


@handles_all_results("unbind")
def _unbind(builder: Builder, arguments: Arguments, results: Sequence[Tensor]) -> None:
    source = arguments["self"]
    for index, result in enumerate(results):
        _add_select(builder, source, arguments["dim"] % source.ndim, index, result)


def _add_select(builder: Builder, source: Tensor, dim: int, index: int, result: Tensor) -> None:
    """Add a slice of one element, and a reshape without its dimension."""
    shape = tuple(source.shape)
    part = builder.new_value("slice", (*shape[:dim], 1, *shape[dim + 1 :]))
    if not result.ndim:
        raise Unsupported("its result is one number")
    builder.add(Slice(builder.float_value(source), part, index, dim))
    builder.add(Reshape(part, builder.new_result(result, "reshape")))
