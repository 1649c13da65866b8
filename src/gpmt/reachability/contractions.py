"""Products that sum over a dimension: linear layers, convolutions, attention."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, reduce

import torch
from torch import Tensor
from torch.nn import functional as F

from gpmt.reachability.elementwise import add, multiply
from gpmt.reachability.mixing import mix
from gpmt.reachability.rules import rule
from gpmt.reachability.signal import NOISE, Call, Signal, Unsupported, binary, without_noise

Product = Callable[[Tensor, Tensor], Tensor]

_PRODUCTS: dict[str, tuple[Product, str, str, str | None]] = {
    "linear": (F.linear, "input", "weight", "bias"),
    "matmul": (torch.matmul, "self", "other", None),
    "mm": (torch.mm, "self", "mat2", None),
    "bmm": (torch.bmm, "self", "mat2", None),
    "mv": (torch.mv, "self", "vec", None),
    "dot": (torch.dot, "self", "tensor", None),
    "inner": (torch.inner, "self", "other", None),
    "outer": (torch.outer, "self", "vec2", None),
    "addmm": (torch.mm, "mat1", "mat2", "self"),
    "baddbmm": (torch.bmm, "batch1", "batch2", "self"),
    "addmv": (torch.mv, "mat", "vec", "self"),
}
"""The function of two tensors that each operator is, and the names of its two factors and of what it adds."""


@rule(*_PRODUCTS)
def _product(call: Call) -> Signal:
    function, one, other, added = _PRODUCTS[call.name]
    result = contract(function, call.signal(one), call.signal(other))
    bias = call.arguments[added] if added else None
    return add(result, bias) if isinstance(bias, Signal) else result


@rule(
    "conv1d",
    "conv2d",
    "conv3d",
    "convolution",
    "_convolution",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
)
def _convolution(call: Call) -> Signal:
    def convolve(source: Tensor, weight: Tensor) -> Tensor:
        result: Tensor = call.target(**call.arguments | {"input": source, "weight": weight, "bias": None})
        return result

    result = contract(convolve, call.signal("input"), call.signal("weight"))
    bias = call.arguments["bias"]
    if not isinstance(bias, Signal):
        return result
    # After the batch, where there is one, come the channels.
    spatial = len(call.arguments["stride"])
    return add(result, bias.changed(lambda t: t.reshape(-1, *[1] * spatial)))


@rule("einsum")
def _einsum(call: Call) -> Signal:
    signals = call.signals
    if len(signals) != 2:
        raise Unsupported
    return contract(partial(torch.einsum, call.arguments["equation"]), *signals)


@rule("bilinear")
def _bilinear(call: Call) -> Signal:
    one, other, weight = (call.signal(name) for name in ("input1", "input2", "weight"))
    pairs = multiply(one.changed(lambda t: t.unsqueeze(-1)), other.changed(lambda t: t.unsqueeze(-2)))
    result = contract(
        F.linear, pairs.changed(lambda t: t.flatten(-2)), weight.changed(lambda t: t.flatten(1))
    )
    bias = call.arguments["bias"]
    return add(result, bias) if isinstance(bias, Signal) else result


def contract(function: Product, one: Signal, other: Signal) -> Signal:
    """Return the signal of a bilinear function, each of whose elements is a sum of products.

    Of two tensors that the input does not reach the result is a constant, not a weight, unless both are weights.
    """
    terms = []
    if one.reached is not None:
        terms.append(function(without_noise(one.reached), without_noise(other.nonzero)))
    if other.reached is not None:
        terms.append(function(without_noise(one.nonzero), without_noise(other.reached)))

    def nonzero() -> Tensor:
        with torch.set_grad_enabled(one.is_weight and other.is_weight):
            return binary(function(one.nonzero, other.nonzero), NOISE)

    return Signal(nonzero, binary(reduce(torch.add, terms), NOISE) if terms else None)


@rule("scaled_dot_product_attention")
def _attention(call: Call) -> Signal:
    query, key, value = (call.signal(name) for name in ("query", "key", "value"))
    if call.arguments.get("enable_gqa"):
        repeats = query.shape[-3] // key.shape[-3]
        key, value = (part.changed(lambda t: t.repeat_interleave(repeats, -3)) for part in (key, value))
    scores = contract(torch.matmul, query, key.changed(lambda t: t.transpose(-2, -1)))
    mask = call.arguments.get("attn_mask")
    if isinstance(mask, Signal):
        scores = add(scores, mask)
    causal = bool(call.arguments.get("is_causal"))
    weights = mix(scores.changed(torch.tril) if causal else scores, [-1]).always()
    return contract(torch.matmul, weights.changed(torch.tril) if causal else weights, value)
