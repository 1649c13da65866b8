"""A graph for another number of samples: what makes one program serve batches of every size."""

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
from gpmt.runtime.passes.fuse import fuse
from gpmt.torch_private import FAKE_TENSOR_LOGGER, FakeTensorMode

_FACTOR, _MORE = 4, 61  # how a second example is larger: what a network does for few samples only shows


def with_dynamic_batch(graph: Graph, model: nn.Module, example: Example) -> Graph:
    """Return the fused graph of a network, marked as dynamic where it is right for any batch.

    It is if all operators are native, which treat samples one by one, and if the network, captured again for many
    more samples, gives the same graph with as many more in every value. One recording could not tell a batch of one
    from a dimension that the network made itself, nor a slice of eight samples from all of them.
    """
    batch = common_batch(graph)
    if batch is None:
        return graph
    more = _FACTOR * batch + _MORE
    try:
        with quiet(FAKE_TENSOR_LOGGER):
            other = fuse(capture(model, _longer(example, more), thorough=False).graph)
    except RuntimeProgramError:
        return graph
    return replace(graph, dynamic_batch=_alike(rebatched(graph, more), other))


def _longer(example: Example, samples: int) -> Example:
    """Return an example of so many samples, without numbers in it; each lies in memory as those of the other one."""

    def longer(tensor: Tensor) -> Tensor:
        steps = torch.empty_like(tensor, device="meta").stride()
        sizes = samples, *tensor.shape[1:]
        steps = math.prod(sizes[1:]), *steps[1:]
        with FakeTensorMode():  # it would be large
            return torch.empty_strided(sizes, steps, dtype=tensor.dtype, device="cpu")

    positional, named = split_example(example, RuntimeProgramError)
    if named:
        return {name: longer(tensor) for name, tensor in named.items()}
    return [longer(tensor) for tensor in positional]


def _alike(one: Graph, other: Graph) -> bool:
    """Whether two graphs say the same, numbers included: `x / len(x)` is in them as a number."""
    return (
        one.values == other.values
        and (one.inputs, one.outputs) == (other.inputs, other.outputs)
        and len(one.operators) == len(other.operators)
        and all(_same(*pair) for pair in zip(one.operators, other.operators, strict=True))
    )


def _same(one: Operator, other: Operator) -> bool:
    fields, others = vars(one), vars(other)
    return type(one) is type(other) and all(_equal(value, others[name]) for name, value in fields.items())


def _equal(one: object, other: object) -> bool:
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return np.array_equal(one.view(np.int32), other.view(np.int32))  # NaN too
    return one == other
