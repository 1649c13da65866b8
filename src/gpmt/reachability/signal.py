"""What is known of a tensor in a network: which elements the input can change, and which can be non-zero."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from gpmt.runtime.ir.torch_calls import bind, short_name
from gpmt.torch_private import OpOverload, tree_leaves, tree_map_only

NOISE = 0.5
"""Counts of paths are whole numbers, but some algorithms for convolutions compute them with rounding errors."""


class Unsupported(Exception):
    """A rule does not cover this call."""


class Signal:
    """One tensor of a network, as zeros and ones of its shape.

    `reached` is linear in the values that it was made from, and its derivative (PyTorch's autograd finds it) tells
    backwards what can change the output. So the derivative by a mask is positive where input and output are linked.

    Args:
        nonzero: where the tensor can be other than zero, or a function that returns it, called when it is needed.
            Of what is made of weights alone, it has a derivative by their masks.
        reached: where the input can change the tensor; None where it cannot.
        data: the values, for integers and bools that are constant.
    """

    def __init__(
        self,
        nonzero: Tensor | Callable[[], Tensor],
        reached: Tensor | None = None,
        *,
        data: Tensor | None = None,
    ) -> None:
        self._nonzero = nonzero
        self.reached = reached
        self.data = data

    @property
    def nonzero(self) -> Tensor:
        """Where the tensor can be other than zero; without a derivative where the input reaches it."""
        if not isinstance(self._nonzero, Tensor):
            self._nonzero = self._nonzero()
        if self.reached is not None and self._nonzero.requires_grad:
            self._nonzero = self._nonzero.detach()
        return self._nonzero

    @property
    def by_input(self) -> Tensor:
        """`reached`, with zeros in place of None."""
        return torch.zeros_like(self.nonzero) if self.reached is None else self.reached

    @property
    def shape(self) -> torch.Size:
        """The shape of the tensor."""
        return self.nonzero.shape if self.reached is None else self.reached.shape

    @property
    def is_weight(self) -> bool:
        """Whether it is made of weights alone."""
        return self.reached is None and self.nonzero.requires_grad

    @property
    def is_full(self) -> bool:
        """Whether it is known, without a look at every element, to be non-zero everywhere."""
        nonzero = self._nonzero
        return isinstance(nonzero, Tensor) and not any(nonzero.stride()) and bool(nonzero.flatten()[:1].all())

    def changed(self, change: Callable[[Tensor], Tensor]) -> Signal:
        """Move or copy the elements."""
        if self.reached is None:
            return Signal(change(self.nonzero))
        return Signal(lambda: change(self.nonzero), change(self.reached))

    def summed(self, sums: Callable[[Tensor], Tensor], *, noise: float = 0.0) -> Signal:
        """Make elements that are sums of some, with positive factors."""
        reached = None if self.reached is None else binary(sums(self.reached), noise)
        return Signal(lambda: binary(sums(self.nonzero), noise), reached)

    def always(self) -> Signal:
        """Return a signal that is non-zero whatever it is made from, such as that of a sigmoid."""
        if self.reached is not None or not self.nonzero.requires_grad:
            like = self.nonzero if self.reached is None else self.reached
            return Signal(ones(self.shape, like), self.reached)
        return Signal(self.nonzero + (1 - self.nonzero.detach()))


def ones(shape: Sequence[int], like: Tensor) -> Tensor:
    """Return ones in no memory."""
    return torch.ones((), dtype=like.dtype, device=like.device).expand(tuple(shape))


def binary(counts: Tensor, noise: float = 0.0) -> Tensor:
    """Return ones where there are paths, zeros elsewhere; and the same for the derivative."""
    result: Tensor = _Binary.apply(counts, noise)
    return result


def without_noise(exact: Tensor) -> Tensor:
    """Return zeros and ones as they are, whose derivative, counts with rounding errors, becomes zeros and ones."""
    result: Tensor = _Exact.apply(exact) if exact.requires_grad else exact
    return result


def _links(counts: Tensor, noise: float) -> Tensor:
    result = torch.empty_like(counts)
    return torch.gt(counts, noise, out=result) if noise else torch.ne(counts, 0, out=result)


class _Binary(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, counts: Tensor, noise: float) -> Tensor:
        return _links(counts, noise)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _links(grad, 0), None


class _Exact(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, exact: Tensor) -> Tensor:
        return exact.view_as(exact)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return _links(grad, NOISE)


@dataclass(frozen=True, eq=False)
class Call:
    """A call of an ATen operator with signals for tensors, and the tensors without data that it returned."""

    target: OpOverload
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    results: Sequence[Tensor | None]
    conservative: set[str] = field(default_factory=set)
    """Names of operators that are taken to pass more than they may."""

    @cached_property
    def name(self) -> str:
        """The operator's name, without the underscore of one that writes in place."""
        name = short_name(self.target)
        return name.removesuffix("_") if not name.endswith("__") else name

    @cached_property
    def arguments(self) -> dict[str, Any]:
        """All arguments by the names in the operator's schema, defaults included."""
        return bind(self.target, self.args, self.kwargs)

    @cached_property
    def signals(self) -> list[Signal]:
        """The signals among the arguments."""
        return [leaf for leaf in tree_leaves((self.args, dict(self.kwargs))) if isinstance(leaf, Signal)]

    @property
    def shape(self) -> torch.Size:
        """The shape of the first result."""
        first = self.results[0]
        if first is None:
            raise Unsupported
        return first.shape

    @property
    def is_reached(self) -> bool:
        """Whether the input can change any argument."""
        return any(signal.reached is not None for signal in self.signals)

    def signal(self, name: str) -> Signal:
        """Return an argument that has to be a signal."""
        found = self.arguments.get(name)
        if not isinstance(found, Signal):
            raise Unsupported
        return found

    def run(self, part: Callable[[Signal], Tensor | None], target: OpOverload | None = None) -> list[Tensor]:
        """Call the operator (or another) with a tensor of each signal."""
        args, kwargs = tree_map_only(Signal, part, (self.args, dict(self.kwargs)))
        result = (target or self.target)(*args, **kwargs)
        return list(result) if isinstance(result, tuple | list) else [result]
