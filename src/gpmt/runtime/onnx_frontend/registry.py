"""The table of operators: which function makes PyTorch's calls for an operator of ONNX, in which versions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from gpmt.runtime.onnx_frontend.call import Call
from gpmt.runtime.onnx_frontend.node import Node

Result = Tensor | tuple[Tensor | None, ...]
Translation = Callable[[Call], Result]


@dataclass(frozen=True)
class Entry:
    """How an operator is translated.

    Attributes:
        translate: makes its results; raises `NotSupported` where it cannot.
        versions: of the operator's definition, that it knows.
        by_shape: whether its result depends only on the shapes of its inputs.
        sized_by_values: whether the size of its result depends on values, but is not larger than its inputs.
    """

    translate: Translation
    versions: frozenset[int]
    by_shape: bool = False
    sized_by_values: bool = False


OPERATORS: dict[str, Entry] = {}
"""By the names of ONNX's own operators."""

_QUANTISED = (
    "Quantize",
    "Dequantize",
    "QLinear",
    "Integer",
    "QAttention",
    "QGemm",
    "QEmbed",
    "QMoE",
    "MatMulNBits",
    "Bnb4",
)


def operator(
    name: str, *versions: int, by_shape: bool = False, sized_by_values: bool = False
) -> Callable[[Translation], Translation]:
    """Register the translation of an operator, for these versions of its definition."""

    def register(translate: Translation) -> Translation:
        OPERATORS[name] = Entry(translate, frozenset(versions), by_shape, sized_by_values)
        return translate

    return register


def entry(node: Node) -> Entry | None:
    """Return how a node's operator is translated; None where it is not, or has changed since."""
    found = OPERATORS.get(node.operator) if not node.domain else None
    return found if found is not None and node.version in found.versions else None


def is_quantised(node: Node) -> bool:
    """Whether an operator works on integers in place of floating numbers."""
    return any(part in node.operator for part in _QUANTISED)
