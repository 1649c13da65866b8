"""Activations, sums, products, and operators that only move elements or add some of them up."""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor
from torch.nn import functional as F

from gpmt.reachability.rules import rule
from gpmt.reachability.signal import Call, Signal, Unsupported, binary, ones


def _names(listed: str) -> frozenset[str]:
    return frozenset(listed.split())


_ZERO_STAYS = _names(
    """
    abs alias asin asinh atan atanh ceil celu clone contiguous deg2rad detach dropout elu erf expm1 feature_dropout
    floor frac gelu hardshrink hardswish leaky_relu lift lift_fresh log1p mish nan_to_num neg negative
    native_dropout positive prelu relu relu6 round rrelu rrelu_with_noise selu sgn sign silu sin sinh softshrink
    softsign sqrt square swish tan tanh to trunc type_as _to_copy
    """
)
"""Operators of one tensor that make zero of zero."""

_FURTHER_POINTWISE = _names(
    """
    __and__ __or__ __xor__ __lshift__ __rshift__ and or xor hardsigmoid log_sigmoid log_sigmoid_forward clip
    floor_divide greater greater_equal less less_equal not_equal isfinite isinf isnan isneginf isposinf
    logical_and logical_or logical_not maximum minimum square threshold true_divide divide multiply subtract
    softplus where
    """
)
"""Those without the tag of pointwise operators."""

_MOVES = _names(
    """
    block_diag broadcast_to cat channel_shuffle chunk concat concatenate diag diagonal dsplit expand
    expand_as flatten flip fliplr flipud hsplit im2col movedim mT mH narrow native_channel_shuffle numpy_T
    permute pixel_shuffle pixel_unshuffle reflection_pad1d reflection_pad2d reflection_pad3d repeat
    repeat_interleave replication_pad1d replication_pad2d replication_pad3d reshape reshape_as roll rot90 select
    select_scatter slice slice_scatter split split_with_sizes split_copy squeeze stack swapaxes swapdims t
    tensor_split tile transpose tril triu unbind unflatten unfold unsafe_chunk unsafe_split unsafe_split_with_sizes
    unsqueeze view view_as vsplit _unsafe_view
    """
)
"""Operators whose every element of a result is an element of an argument, or a constant."""

_SUMS = _names(
    """
    adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d _adaptive_avg_pool2d _adaptive_avg_pool3d avg_pool1d
    avg_pool2d avg_pool3d col2im cumsum trace upsample_bicubic2d upsample_bilinear2d upsample_linear1d
    upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_trilinear3d _upsample_bicubic2d_aa
    _upsample_bilinear2d_aa _upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d
    """
)
"""Those whose every element is a sum of elements, with fixed factors."""

_RESHAPE = torch.ops.aten.reshape.default


def is_pointwise(call: Call) -> bool:
    """Return whether an operator makes each element of the one element at its place in each argument."""
    return torch.Tag.pointwise in call.target.tags or call.name in _ZERO_STAYS | _FURTHER_POINTWISE


def pointwise(call: Call) -> Signal:
    """Any argument can change the result; zero stays zero where that is known."""
    if not call.signals:
        raise Unsupported
    if call.name in _ZERO_STAYS or (call.name == "pow" and _is_power(call)) or _clamps_around_zero(call):
        return call.signals[0]
    return add(*call.signals).always()


def _is_power(call: Call) -> bool:
    exponent = call.arguments.get("exponent")
    return isinstance(exponent, int | float) and exponent > 0


def _clamps_around_zero(call: Call) -> bool:
    if call.name not in ("clamp", "hardtanh", "clip", "clamp_min", "clamp_max", "relu6"):
        return False
    low, high = (
        call.arguments.get(key, call.arguments.get(other))
        for key, other in (("min", "min_val"), ("max", "max_val"))
    )
    return all(bound is None or isinstance(bound, int | float) for bound in (low, high)) and (
        (low is None or low <= 0) and (high is None or high >= 0)
    )


@rule("add", "sub", "subtract", "rsub")
def _add(call: Call) -> Signal:
    numbers = [
        call.arguments[key] for key in ("self", "other") if not isinstance(call.arguments[key], Signal)
    ]
    return pointwise(call) if any(numbers) else add(*call.signals)


def add(*signals: Signal) -> Signal:
    """Return the signal of a sum, with broadcasting."""
    shape: torch.Size = torch.broadcast_shapes(*(s.shape for s in signals))  # type: ignore[no-untyped-call]
    terms = [signal.reached.expand(shape) for signal in signals if signal.reached is not None]
    reached = binary(reduce(torch.add, terms)) if terms else None
    for signal in signals:
        if signal.is_full and reached is not None:
            return Signal(ones(shape, reached), reached)
    return Signal(lambda: binary(reduce(torch.add, (s.nonzero.expand(shape) for s in signals))), reached)


@rule("mul", "multiply")
def _multiply(call: Call) -> Signal:
    return multiply(*call.signals) if len(call.signals) == 2 else call.signals[0]


def multiply(one: Signal, other: Signal) -> Signal:
    """Return the signal of a product: each factor passes the input on where the other one is not always zero."""
    terms = [
        first * second.nonzero
        for first, second in ((one.reached, other), (other.reached, one))
        if first is not None
    ]
    return Signal(lambda: one.nonzero * other.nonzero, binary(reduce(torch.add, terms)) if terms else None)


@rule("div", "divide", "true_divide")
def _divide(call: Call) -> Signal:
    first, *others = call.signals
    if not isinstance(call.arguments["self"], Signal):
        return first.always()
    if not others:
        return first
    # The divisor is not zero, whatever its weights.
    return multiply(first, Signal(ones(others[0].shape, others[0].by_input), others[0].reached))


@rule("glu")
def _glu(call: Call) -> Signal:
    source, dim = call.signal("self"), call.arguments["dim"]
    value, gate = (source.changed(lambda t, i=i: t.chunk(2, dim)[i]) for i in range(2))  # type: ignore[misc]
    return multiply(value, gate.always())


@rule("copy")
def _copy(call: Call) -> Signal:
    return call.signal("src").changed(lambda t: t.expand(call.shape))


@rule("fill", "zero")
def _fill(call: Call) -> Signal:
    value = call.arguments.get("value", 0)
    if isinstance(value, Signal):
        return value.changed(lambda t: t.expand(call.shape))
    everywhere = ones(call.shape, call.signals[0].by_input)
    return Signal(everywhere if value else torch.zeros_like(everywhere))


@rule("pad", "constant_pad_nd")
def _pad(call: Call) -> Signal:
    source, fill = call.signal("self"), call.arguments.get("value")
    mode = call.arguments.get("mode", "constant")

    def padded(counts: Tensor, value: float | None) -> Tensor:
        return F.pad(counts, call.arguments["pad"], mode, value)

    reached = None if source.reached is None else padded(source.reached, None)
    return Signal(lambda: padded(source.nonzero, 1.0 if fill else None), reached)


@rule(*_MOVES, *_SUMS)
def _linear(call: Call) -> list[Signal]:
    """Call the operator on zeros and ones."""
    target = None
    if call.name in ("view", "_unsafe_view"):
        if "size" not in call.arguments:  # the same bytes as another type
            raise Unsupported
        target = _RESHAPE
    nonzero = call.run(lambda signal: signal.nonzero, target)
    reached = call.run(lambda signal: signal.by_input, target) if call.is_reached else [None] * len(nonzero)
    signals = [Signal(one, other) for one, other in zip(nonzero, reached, strict=True)]
    return [signal.summed(lambda t: t) for signal in signals] if call.name in _SUMS else signals
