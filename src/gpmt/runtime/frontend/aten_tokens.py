"""ATen's lookups of tokens, and constants that are added to tokens or concatenated with them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from gpmt.runtime.frontend.builder import Arguments, Builder, Unsupported
from gpmt.runtime.frontend.handlers import handles
from gpmt.runtime.ir.operators import Embedding, PlaceTokens
from gpmt.runtime.ir.values import Floats


@handles("embedding")
def _embedding(builder: Builder, arguments: Arguments, result: Tensor) -> None:
    weight, indices = arguments["weight"], arguments["indices"]
    table = builder.constant_array(weight, "weight")
    name = builder.value_name(indices)
    if result.ndim == 4 and tuple(result.shape[2:]) == (1, 1):
        raise Unsupported("its result has one feature")
    if indices.dtype not in (torch.int64, torch.int32) or indices.ndim == 0:
        raise Unsupported("its indices are not integers of 32 or 64 bits")
    if name not in builder.graph.inputs:
        raise Unsupported("its indices are computed")
    output = builder.new_result(result, "embedding")
    builder.add(Embedding(name, output, table, builder.state_name(weight)))


def place_tokens(builder: Builder, source: object, added: object, result: Tensor) -> bool:
    """Add the sum of tokens and constant ones, which are the same for all samples; False where it is not that."""
    if not isinstance(source, Tensor) or source.shape != result.shape or result.ndim != 3:
        return False
    if builder.constant_data(source) is not None or result.dtype != torch.float32:
        return False
    constant = _same_for_samples(builder, added, result)
    if constant is None:
        return False
    name = builder.float_value(source)
    builder.add(PlaceTokens(name, builder.new_result(result, "place"), constant))
    return True


def concat_tokens(builder: Builder, parts: Sequence[Tensor], result: Tensor) -> bool:
    """Add the concatenation of tokens with constant ones before and behind them; False where it is not that."""
    computed = [index for index, part in enumerate(parts) if builder.constant_data(part) is None]
    if len(computed) != 1 or result.dtype != torch.float32:
        return False
    (index,), (batch, _, features) = computed, result.shape
    source = parts[index]
    constants = [
        _same_for_samples(builder, part, result.new_empty(batch, part.shape[1], features))
        for part in parts
        if part is not source
    ]
    constants.insert(index, np.zeros((source.shape[1], features), np.float32))
    if any(constant is None for constant in constants):
        return False
    first = sum(part.shape[1] for part in parts[:index])
    name = builder.float_value(source)
    placed = np.concatenate([constant for constant in constants if constant is not None])
    builder.add(PlaceTokens(name, builder.new_result(result, "place"), placed, first))
    return True


def _same_for_samples(builder: Builder, constant: object, like: Tensor) -> Floats | None:
    """Return a constant as [tokens, features], repeated as adding to [n, tokens, features] would; None otherwise."""
    data = builder.constant_data(constant)
    if data is None or data.dtype != torch.float32 or data.ndim > like.ndim:
        return None
    data = data.reshape((1,) * (like.ndim - data.ndim) + tuple(data.shape))
    if any(size not in (1, wanted) for size, wanted in zip(data.shape, like.shape, strict=True)):
        return None
    if len(data) > 1 and not bool((data == data[:1]).all()):
        return None
    repeated: Floats = np.broadcast_to(data[0].numpy(), like.shape[1:]).copy()
    return repeated
