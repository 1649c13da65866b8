"""ATen's slices, splits and concatenations of images."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from gpmt.runtime.frontend.aten_pooling import add_pool
from gpmt.runtime.frontend.aten_shapes import identity
from gpmt.runtime.frontend.builder import Arguments, Builder, Unsupported
from gpmt.runtime.frontend.handlers import handles, handles_all_results
from gpmt.runtime.ir.operators import Concat, Pool, Slice


@handles("slice")
def _slice(builder: Builder, arguments: Arguments, result: Tensor) -> None:
    source, start, end, step = (arguments[name] for name in ("self", "start", "end", "step"))
    dim = arguments["dim"] % source.ndim
    if step == 1 and dim == 1 and source.ndim == 4 and result.shape != source.shape:
        first = slice(start, end).indices(source.shape[1])[0]
        builder.add(Slice(builder.image_value(source), builder.new_result(result, "slice"), first))
        return
    if step == 1:
        identity(builder, arguments, result)
        return
    if dim < 2 or start or (end is not None and end < source.shape[dim]):
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
    parts = tuple(builder.image_value(tensor) for tensor in tensors)
    if arguments["dim"] % 4 != 1:
        raise Unsupported("it is not along the channels")
    builder.add(Concat(parts, builder.new_result(result, "cat")))


@handles_all_results("chunk", "split", "split_with_sizes", "tensor_split", "unsafe_chunk", "unsafe_split")
def _split(builder: Builder, arguments: Arguments, results: Sequence[Tensor]) -> None:
    name = builder.image_value(arguments["self"])
    if arguments["dim"] % 4 != 1:
        raise Unsupported("it is not along the channels")
    first = 0
    for result in results:
        builder.add(Slice(name, builder.new_result(result, "split"), first))
        first += result.shape[1]
