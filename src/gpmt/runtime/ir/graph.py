"""A network as the runtime sees it: values with fixed shapes, and the operators between them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch

from gpmt.runtime.ir.operator import Operator, with_own_arrays
from gpmt.runtime.ir.values import Value


@dataclass
class Graph:
    """A whole network for one shape of its inputs.

    Images are [batch, channels, height, width], vectors [..., features], all float32 where a native operator reads
    or writes them.

    Attributes:
        values: all values by name.
        operators: in the order of execution; each value is written once.
        inputs: the values that a call gives, in its order.
        outputs: the values that a call returns, in the order of their leaves in the network's result.
        constants: values that are there from the start (buffers and parameters that a fallback reads).
        dynamic_batch: whether the first dimension of every value is the batch, and samples do not depend on one
            another, so that the graph is right for any number of samples.
    """

    values: dict[str, Value]
    operators: list[Operator]
    inputs: list[str]
    outputs: list[str]
    constants: dict[str, torch.Tensor] = field(default_factory=dict)
    dynamic_batch: bool = False


def copy_arrays(graph: Graph) -> Graph:
    """Return a graph whose arrays share no memory with the network that it was made from."""
    operators = [with_own_arrays(operator) for operator in graph.operators]
    constants = {name: tensor.clone() for name, tensor in graph.constants.items()}
    return replace(graph, operators=operators, constants=constants)
