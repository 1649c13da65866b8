"""What the translation of an operator is given: its tensors, its attributes, and what is known of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gpmt.formats.short_repr import short_repr
from gpmt.runtime.onnx_frontend.node import Node
from gpmt.torch_private import disable_current_modes

MAX_ELEMENTS = 2**31
"""Of one tensor; a layer works on no more."""


class NotSupported(Exception):
    """A node that cannot be translated; the text is the reason."""


class Call:
    """One node with its inputs, while the network runs, with or without data.

    Args:
        node: the node.
        tensors: its inputs; None where one is left out.
        known: whether each is the same in every call with inputs of these shapes.
        wanted: whether each output is read.
    """

    def __init__(
        self, node: Node, tensors: Sequence[Tensor | None], known: Sequence[bool], wanted: Sequence[bool]
    ) -> None:
        self.node = node
        self.version = node.version
        self._tensors = tensors
        self._known = known
        self._wanted = wanted

    def __len__(self) -> int:
        return len(self._tensors)

    def tensor(self, index: int) -> Tensor:
        """Return an input."""
        found = self.optional(index)
        if found is None:
            raise NotSupported(f"its input {index + 1} is missing")
        return found

    def optional(self, index: int) -> Tensor | None:
        """Return an input, or None where it is left out."""
        return self._tensors[index] if index < len(self._tensors) else None

    def all(self) -> list[Tensor]:
        """Return all inputs."""
        return [self.tensor(index) for index in range(len(self))]

    def is_known(self, index: int) -> bool:
        """Whether an input is there, and the same in every call."""
        return self.optional(index) is not None and self._known[index]

    def is_wanted(self, index: int) -> bool:
        """Whether an output is read."""
        return index < len(self._wanted) and self._wanted[index]

    def numbers(self, index: int) -> list[Any]:
        """Return the numbers of a known input with at most one dimension."""
        tensor = self.tensor(index)
        if not self._known[index]:
            raise NotSupported(f"its input {index + 1} depends on values of the network's inputs")
        if tensor.ndim > 1:
            raise NotSupported(f"its input {index + 1} has {tensor.ndim} dimensions, not 1")
        with disable_current_modes():
            listed: list[Any] = tensor.reshape(-1).tolist()
        return listed

    def integers(self, index: int) -> list[int]:
        """Return the integers of a known input."""
        found = self.numbers(index)
        if not all(type(number) is int for number in found):
            raise NotSupported(f"its input {index + 1} does not hold integers")
        return found

    def number(self, index: int) -> Any:
        """Return the one number of a known input."""
        found = self.numbers(index)
        if len(found) != 1:
            raise NotSupported(f"its input {index + 1} holds {len(found)} numbers, not one")
        return found[0]

    def has(self, name: str) -> bool:
        """Whether an attribute is there."""
        return name in self.node.attributes

    def integer(self, name: str, default: int) -> int:
        """Return an attribute that is an integer."""
        found: int = self._attribute(name, int, default)
        return found

    def real(self, name: str, default: float) -> float:
        """Return an attribute that is a number."""
        found: float = self._attribute(name, float, default)
        return found

    def text(self, name: str, default: str) -> str:
        """Return an attribute that is a text."""
        found: str = self._attribute(name, str, default)
        return found

    def integer_list(self, name: str) -> list[int] | None:
        """Return an attribute that is a list of integers, or None."""
        found = self.node.attributes.get(name)
        if found is not None and not (isinstance(found, list) and all(type(part) is int for part in found)):
            raise NotSupported(f"its attribute {name} is not a list of integers")
        return found

    def axis(self, axis: int, dimensions: int) -> int:
        """Return an axis, which may count from the end, as one from 0 on."""
        if not -dimensions <= axis < dimensions:
            raise NotSupported(f"its axis is {axis}, but its input has {dimensions} dimensions")
        return axis % dimensions

    def axes(self, axes: Sequence[int], dimensions: int) -> list[int]:
        """Return axes, each once, as ones from 0 on."""
        found = [self.axis(axis, dimensions) for axis in axes]
        if len({*found}) != len(found):
            raise NotSupported(
                f"its axes are {short_repr(str(list(axes)))[1:-1]}, but each can be there once only"
            )
        return found

    def _attribute(self, name: str, kind: type, default: Any) -> Any:
        found = self.node.attributes.get(name, default)
        if type(found) is not kind:
            raise NotSupported(
                f"its attribute {name} is {short_repr(found)}, not of the type {kind.__name__}"
            )
        return found


def check_size(sizes: Sequence[int]) -> None:
    """Raise `NotSupported` for a tensor of more elements than a layer works on."""
    if min(sizes, default=0) < 0:
        raise NotSupported(f"its result would have the shape {short_repr(str(list(sizes)))[1:-1]}")
    if math.prod(sizes) > MAX_ELEMENTS:
        raise NotSupported(
            f"its result would have {math.prod(sizes):.3g} elements, more than {MAX_ELEMENTS:,}"
        )


def constant(data: Any, dtype: torch.dtype) -> Tensor:
    """Return numbers as a tensor with data, also while the network runs on tensors without."""
    with disable_current_modes():
        return torch.tensor(data, dtype=dtype, device="cpu")
