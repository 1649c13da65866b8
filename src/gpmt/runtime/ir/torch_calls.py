"""Calls of PyTorch's operators with values of a graph as arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from gpmt.torch_private import OpOverload, schema, tree_leaves, tree_map_only


@dataclass(frozen=True)
class Ref:
    """The value of this name, as an argument of a call."""

    name: str


@dataclass(frozen=True, eq=False)
class TorchCall:
    """One call; `outputs` are the names of its results, None for what is not a tensor or is not read."""

    target: OpOverload
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: tuple[str | None, ...]

    def reads(self) -> list[str]:
        """Return the names of the values among the arguments."""
        leaves = tree_leaves((self.args, self.kwargs), is_leaf=lambda leaf: isinstance(leaf, Ref))
        return [leaf.name for leaf in leaves if isinstance(leaf, Ref)]


class TorchCalls:
    """A sequence of calls as one function of tensors.

    Results never share memory with the arguments; intermediate results are freed after their last reader.
    """

    def __init__(self, calls: Sequence[TorchCall], inputs: Sequence[str], outputs: Sequence[str]) -> None:
        self.calls = tuple(calls)
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        last = {name: index for index, call in enumerate(calls) for name in call.reads()}
        kept = {*self.outputs, *self.inputs}
        self._dead = [
            [name for name, end in last.items() if end == index and name not in kept]
            for index in range(len(calls))
        ]
        # Most calls have references at the top only; searching the others for them takes longer.
        self._plain = [
            sum(isinstance(arg, Ref) for arg in call.args) == len(call.reads()) for call in self.calls
        ]

    def __call__(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs for these inputs."""
        values: dict[str, Tensor] = dict(zip(self.inputs, tensors, strict=True))
        for call, plain, dead in zip(self.calls, self._plain, self._dead, strict=True):
            if plain:
                args = [values[a.name] if isinstance(a, Ref) else a for a in call.args]
                result = call.target(*args, **call.kwargs)
            else:
                args, kwargs = tree_map_only(Ref, lambda ref: values[ref.name], (call.args, call.kwargs))
                result = call.target(*args, **kwargs)
            parts = result if isinstance(result, tuple | list) else (result,)
            for name, part in zip(call.outputs, parts, strict=True):
                if name is not None:
                    values[name] = part
            for name in dead:
                del values[name]
        given = {tensor.untyped_storage().data_ptr() for tensor in tensors}
        return tuple(
            part.clone(memory_format=torch.contiguous_format)
            if part.untyped_storage().data_ptr() in given
            else part
            for part in (values[name] for name in self.outputs)
        )

    def renamed(self, names: Mapping[str, str]) -> TorchCalls:
        """Return the same calls of other inputs; several may become one."""

        def rename(tree: Any) -> Any:
            return tree_map_only(Ref, lambda ref: Ref(names.get(ref.name, ref.name)), tree)

        calls = [replace(call, args=rename(call.args), kwargs=rename(call.kwargs)) for call in self.calls]
        return TorchCalls(
            calls, list(dict.fromkeys(names.get(name, name) for name in self.inputs)), self.outputs
        )


def short_name(target: OpOverload) -> str:
    """Return an operator's name for a report: `layer_norm`, or `torchvision.nms` where it is not PyTorch's own."""
    namespace, _, name = schema(target).name.partition("::")
    return name if namespace == "aten" else f"{namespace}.{name}"


def bind(target: OpOverload, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return all arguments of a call by the names in the operator's schema, defaults included."""
    return {
        a.name: args[i] if i < len(args) else kwargs.get(a.name, a.default_value)
        for i, a in enumerate(schema(target).arguments)
    }
