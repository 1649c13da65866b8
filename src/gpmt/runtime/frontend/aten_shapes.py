"""ATen's new shapes of the same elements, and copies."""

from __future__ import annotations

from torch import Tensor

from gpmt.runtime.frontend.builder import Arguments, Builder, Unsupported
from gpmt.runtime.frontend.handlers import handles
from gpmt.runtime.ir.operators import Permute, Reshape


@handles(
    "view", "_unsafe_view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "view_as", "reshape_as"
)
def _reshape(builder: Builder, arguments: Arguments, result: Tensor) -> None:
    source = arguments["self"]
    name = builder.float_value(source)
    if result.dtype != source.dtype:
        raise Unsupported("it changes the type")
    if result.shape == source.shape:
        builder.set_value(result, name)
    else:
        builder.add(Reshape(name, builder.new_result(result, "reshape")))


@handles("permute", "transpose", "t")
def _permute(builder: Builder, arguments: Arguments, result: Tensor) -> None:
    """Moving dimensions of length 1 only is a new shape.

    Results are named alike, as it depends on the batch which of them move numbers.
    """
    source = arguments["self"]
    order = list(range(source.ndim))
    if "dims" in arguments:
        order = [d % source.ndim for d in arguments["dims"]]
    elif "dim0" in arguments and source.ndim:
        one, two = arguments["dim0"] % source.ndim, arguments["dim1"] % source.ndim
        order[one], order[two] = order[two], order[one]
    else:
        order.reverse()
    long = [d for d in order if source.shape[d] > 1]
    if long == sorted(long):
        _reshape(builder, arguments, result)
    else:
        builder.add(Permute(builder.float_value(source), builder.new_result(result, "reshape"), tuple(order)))


@handles(
    "alias",
    "clone",
    "contiguous",
    "detach",
    "expand",
    "expand_as",
    "lift_fresh",
    "positive",
    "dropout",
    "feature_dropout",
    "alpha_dropout",
    "feature_alpha_dropout",
    "to",
    "_to_copy",
    "type_as",
)
def identity(builder: Builder, arguments: Arguments, result: Tensor) -> None:
    """Take a result to be the input itself; raises `Unsupported` where shape, type or values differ."""
    source = arguments.get("self", arguments.get("input"))
    if arguments.get("train", arguments.get("training", False)):
        raise Unsupported("it is random")
    if not isinstance(source, Tensor) or (source.shape, source.dtype) != (result.shape, result.dtype):
        raise Unsupported("it changes shape or type")
    builder.set_value(result, builder.value_name(source))


@handles("copy")
def _copy(builder: Builder, arguments: Arguments, result: Tensor) -> None:
    identity(builder, {"self": arguments["src"]}, result)
