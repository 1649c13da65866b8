"""Operators that let many elements of a dimension change one: norms, softmax, pooling, reductions, look-ups."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gpmt.reachability.elementwise import multiply, pointwise
from gpmt.reachability.rules import RULES, rule
from gpmt.reachability.signal import NOISE, Call, Signal, Unsupported, binary


def mix(signal: Signal, dims: Sequence[int]) -> Signal:
    """Return a signal in which every element depends on all that differ from it in these dimensions only."""
    if not dims:
        return signal
    return signal.summed(lambda t: t.sum(tuple(dims), keepdim=True).expand(t.shape))


def _check_affine(call: Call) -> None:
    """Leave norms whose scale or shift the input changes to the rule for any operator."""
    for name in ("weight", "bias"):
        parameter = call.arguments.get(name)
        if isinstance(parameter, Signal) and parameter.reached is not None:
            raise Unsupported


@rule("_weight_norm", "_weight_norm_interface")
def _weight_norm(call: Call) -> list[Signal]:
    # The direction divided by its norm, times a magnitude that is not judged.
    direction = call.signal("v")
    return [direction, *(call.signal("g") for _ in call.results[1:])]


@rule("batch_norm", "native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training")
def _batch_norm(call: Call) -> Signal:
    _check_affine(call)
    source = call.signal("input")
    running = isinstance(call.arguments.get("running_mean"), Signal)
    if running and not call.arguments.get("training", False):
        return source.always()
    return mix(source, [dim for dim in range(len(source.shape)) if dim != 1]).always()


@rule("instance_norm")
def _instance_norm(call: Call) -> Signal:
    _check_affine(call)
    source = call.signal("input")
    return mix(source, range(2, len(source.shape)) if call.arguments["use_input_stats"] else []).always()


@rule("layer_norm", "native_layer_norm")
def _layer_norm(call: Call) -> Signal:
    _check_affine(call)
    return mix(call.signal("input"), range(-len(call.arguments["normalized_shape"]), 0)).always()


@rule("rms_norm", "_fused_rms_norm")
def _rms_norm(call: Call) -> Signal:
    _check_affine(call)
    source = call.signal("input")
    # x · (1 / root of the mean square): zero stays zero.
    return multiply(source, mix(source, range(-len(call.arguments["normalized_shape"]), 0)).always())


@rule("group_norm", "native_group_norm")
def _group_norm(call: Call) -> Signal:
    _check_affine(call)
    source = call.signal("input")
    groups = int(call.arguments["num_groups" if "num_groups" in call.arguments else "group"])
    shape = (source.shape[0], groups, -1)
    grouped = mix(source.changed(lambda t: t.reshape(shape)), [2]).always()
    return grouped.changed(lambda t: t.reshape(source.shape))


@rule("softmax", "_softmax", "_safe_softmax", "log_softmax", "_log_softmax")
def _softmax(call: Call) -> Signal:
    return mix(call.signal("self"), [call.arguments["dim"]]).always()


_ZERO_STAYS = (
    "amax",
    "amin",
    "linalg_vector_norm",
    "max",
    "mean",
    "min",
    "nansum",
    "norm",
    "prod",
    "std",
    "sum",
    "var",
)


@rule(
    *_ZERO_STAYS,
    "all",
    "any",
    "argmax",
    "argmin",
    "aminmax",
    "count_nonzero",
    "logsumexp",
    "std_mean",
    "var_mean",
)
def _reduction(call: Call) -> list[Signal]:
    if "other" in call.arguments:  # the larger of two tensors
        return [pointwise(call)]
    source = call.signals[0]
    dims = call.arguments.get("dim")
    dims = [dims] if isinstance(dims, int) else dims
    dims = list(dims) if dims else list(range(len(source.shape)))

    results = []
    for result in call.results:
        if result is None:
            raise Unsupported
        reduced = source.summed(
            lambda t, shape=result.shape: (t.sum(dims, keepdim=True) if dims else t).reshape(shape)  # type: ignore[misc]
        )
        zero_stays = call.name in _ZERO_STAYS and result.is_floating_point()
        results.append(reduced if zero_stays else reduced.always())
    return results


@rule("topk", "sort", "argsort", "msort", "kthvalue", "mode", "median", "cummax", "cummin")
def _order(call: Call) -> list[Signal]:
    source = call.signal("self")
    if "dim" not in call.arguments:
        raise Unsupported
    return [_any_along(source, call.arguments["dim"], result) for result in call.results]


def _any_along(source: Signal, dim: int, result: Tensor | None) -> Signal:
    if result is None:
        raise Unsupported
    kept, shape = result.ndim == len(source.shape), result.shape
    return source.summed(lambda t: t.sum(dim, keepdim=kept).expand(shape)).always()


@rule(*(f"max_pool{n}d{more}" for n in (1, 2, 3) for more in ("", "_with_indices")))
def _max_pool(call: Call) -> Signal:
    source, shape = call.signal("self"), call.shape
    dims = int(call.name.split("max_pool")[1][0])
    names = "kernel_size", "stride", "padding", "dilation"
    kernel, stride, padding, dilation = (_sizes(call.arguments[name], dims) for name in names)
    stride = stride or kernel

    def pooled(counts: Tensor) -> Tensor:
        image = counts.reshape(-1, 1, *counts.shape[-dims:])
        sides: list[int] = []
        for size, out, k, s, p, d in zip(
            counts.shape[-dims:], shape[-dims:], kernel, stride, padding, dilation, strict=True
        ):
            sides = [p, max(0, (out - 1) * s + d * (k - 1) + 1 - size - p), *sides]
        window = torch.ones((1, 1, *kernel), dtype=counts.dtype, device=counts.device)
        convolve = (F.conv1d, F.conv2d, F.conv3d)[dims - 1]
        sums = convolve(F.pad(image, sides), window, stride=stride, dilation=dilation)
        for dim, size in enumerate(shape[-dims:], start=2):
            sums = sums.narrow(dim, 0, size)
        return sums.reshape(shape)

    return source.summed(pooled, noise=NOISE)


def _sizes(value: Any, dims: int) -> list[int]:
    sizes = [value] if isinstance(value, int) else list(value)
    return sizes * dims if len(sizes) == 1 else sizes


RULES.update({f"adaptive_max_pool{n}d": RULES[f"adaptive_avg_pool{n}d"] for n in (1, 2, 3)})


@rule("embedding")
def _embedding(call: Call) -> Signal:
    weight, indices, data = call.signal("weight"), call.signal("indices"), call.signal("indices").data
    if data is not None:
        return weight.changed(lambda t: F.embedding(data.to(t.device), t))
    rows = weight.summed(lambda t: t.sum(0).expand(call.shape))
    if indices.reached is None:
        return rows
    return Signal(rows.nonzero, binary(indices.reached.unsqueeze(-1) * rows.nonzero))


@rule("index")
def _index(call: Call) -> Signal:
    source, indices = call.signal("self"), call.arguments["indices"]
    positions = [index for index in indices if index is not None]
    if any(index.data is None for index in positions):
        # Any element along these dimensions may be the one that is read.
        dims = [dim for dim, index in enumerate(indices) if index is not None]
        chosen = [
            None
            if index is None
            else torch.zeros(index.shape, dtype=torch.long, device=source.nonzero.device)
            for index in indices
        ]
    else:
        dims, chosen = (
            [],
            [None if index is None else index.data.to(source.nonzero.device) for index in indices],
        )

    def read(counts: Tensor) -> Tensor:
        counts = counts.sum(dims, keepdim=True) if dims else counts
        result: Tensor = call.target(counts, chosen)
        return result

    return _looked_up(call, source, read, positions)


@rule("gather", "index_select")
def _gather(call: Call) -> Signal:
    source, index, dim = call.signal("self"), call.signal("index"), call.arguments["dim"]
    sizes = [slice(None if i == dim % len(call.shape) else size) for i, size in enumerate(call.shape)]

    def read(counts: Tensor) -> Tensor:
        if index.data is not None:
            result: Tensor = call.target(counts, dim, index.data.to(counts.device))
            return result
        return counts.sum(dim, keepdim=True)[tuple(sizes)].expand(call.shape)

    return _looked_up(call, source, read, [index])


def _looked_up(
    call: Call, source: Signal, read: Callable[[Tensor], Tensor], indices: Sequence[Signal]
) -> Signal:
    """Read elements, any along the dimensions of which the places are not known."""
    found = source.summed(read)
    if any(index.data is None for index in indices) and (source.is_weight or source.reached is not None):
        call.conservative.add(call.name)
    for index in indices:
        if index.reached is not None:
            # Which elements are read depends on the input.
            reached = index.reached.sum() * found.nonzero
            found = Signal(found.nonzero, binary(found.by_input + reached))
    return found


@rule("one_hot")
def _one_hot(call: Call) -> Signal:
    return call.signal("self").changed(lambda t: t.unsqueeze(-1).expand(call.shape)).always()
