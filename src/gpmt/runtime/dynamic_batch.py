"""Whether a graph is right for a batch of any size, so that one program can serve all sizes."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from gpmt.errors import RuntimeProgramError
from gpmt.model_tools import Example, quiet, split_example
from gpmt.runtime.frontend.capture import capture
from gpmt.runtime.ir.batch import common_batch, rebatched
from gpmt.runtime.ir.graph import Graph
from gpmt.runtime.ir.operator import Operator
from gpmt.runtime.passes.pipeline import optimize
from gpmt.torch_private import FAKE_TENSOR_LOGGER, FakeTensorMode

# The second example is much larger, so that it shows what a network does for few samples only.
_FACTOR, _MORE = 4, 61


def with_dynamic_batch(graph: Graph, model: nn.Module, example: Example) -> Graph:
    """Return the optimized graph of a network, with `dynamic_batch` set where it is right for any batch.

    It is if all operators are native, since those treat samples one by one, and if the network, captured again for
    many more samples, gives the same graph with as many more in every value. One recording could not tell a batch of
    one from a dimension that the network made itself, nor a slice of eight samples from all of them.

    Args:
        graph: of `model` for `example`, optimized.
    """
    batch = common_batch(graph)
    if batch is None:
        return graph
    more = _FACTOR * batch + _MORE
    try:
        with quiet(FAKE_TENSOR_LOGGER):
            other = optimize(capture(model, _larger_example(example, more), thorough=False).graph)
    except RuntimeProgramError:
        return graph
    return replace(graph, dynamic_batch=_equal_graphs(rebatched(graph, more), other))


def _larger_example(example: Example, samples: int) -> Example:
    """Return an example of so many samples, of tensors without data and with the strides of the given one."""

    def larger(tensor: Tensor) -> Tensor:
        steps = torch.empty_like(tensor, device="meta").stride()
        sizes = samples, *tensor.shape[1:]
        steps = math.prod(sizes[1:]), *steps[1:]
        with FakeTensorMode():  # it would be large
            return torch.empty_strided(sizes, steps, dtype=tensor.dtype, device="cpu")

    positional, named = split_example(example, RuntimeProgramError)
    if named:
        return {name: larger(tensor) for name, tensor in named.items()}
    return [larger(tensor) for tensor in positional]


def _equal_graphs(one: Graph, other: Graph) -> bool:
    """Whether two graphs are the same, arrays included: they hold `x / len(x)` as a division by a number."""
    return (
        one.values == other.values
        and (one.inputs, one.outputs) == (other.inputs, other.outputs)
        and len(one.operators) == len(other.operators)
        and all(_equal_operators(*pair) for pair in zip(one.operators, other.operators, strict=True))
    )


def _equal_operators(one: Operator, other: Operator) -> bool:
    fields, others = vars(one), vars(other)
    return type(one) is type(other) and all(
        _equal_fields(value, others[name]) for name, value in fields.items()
    )


def _equal_fields(one: object, other: object) -> bool:
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return np.array_equal(one.view(np.int32), other.view(np.int32))  # NaN too
    return one == other
