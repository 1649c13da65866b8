"""The graph in construction: which value a recorded tensor is, which are constant, and which share memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gpmt.errors import RuntimeProgramError
from gpmt.runtime.frontend.record import Aliased, RecordedCall, Recording
from gpmt.runtime.ir.graph import Graph
from gpmt.runtime.ir.operator import Operator, reads
from gpmt.runtime.ir.operators import fallback
from gpmt.runtime.ir.torch_calls import Ref, TorchCall, short_name
from gpmt.runtime.ir.values import Floats, Value
from gpmt.torch_private import FakeTensor, OpOverload, storage_id, tree_leaves, tree_map_only

Arguments = dict[str, Any]


class Unsupported(Exception):
    """A call that no kernel can do, which becomes a fallback; the text is the reason."""


class Builder:
    """A graph that grows call by call.

    Attributes:
        graph: what there is so far.
        constants: parameters, buffers and what is computed from them alone, by the names of values.
        padded: for values that are another image with a constant around it: that image, (top, left, bottom,
            right) and the constant.
    """

    def __init__(self, module: nn.Module, recording: Recording, inputs: Sequence[str]) -> None:
        self.graph = Graph({}, [], [], [])
        self.constants: dict[str, Tensor] = {}
        self.padded: dict[str, tuple[str, tuple[int, int, int, int], float]] = {}
        self._names: dict[int, str | None] = {}
        self._views: dict[int, list[Tensor]] = {}
        self._state_names: dict[str, str] = {}
        self._parameters = {name for name, _ in module.named_parameters()}
        self._state = {
            _memory_key(tensor): name
            for name, tensor in reversed([*module.named_parameters(), *module.named_buffers()])
        }
        self._read_ids = {id(leaf) for call in recording.calls for leaf in _tensors((call.args, call.kwargs))}
        self._read_ids |= {id(leaf) for leaf in _tensors(recording.result)}
        for name, tensor in zip(inputs, recording.inputs, strict=True):
            self.graph.inputs.append(self.new_result(tensor, name))

    def value_name(self, tensor: Tensor) -> str:
        """Return the name of the value that a recorded tensor is."""
        if id(tensor) not in self._names:
            if not isinstance(tensor, FakeTensor):
                self.add_constant(tensor, tensor.detach(), self._state.get(_memory_key(tensor), ""))
            else:
                # Made without a call, such as `tensor.data`.
                same = [
                    t for t in self._views.get(storage_id(tensor), []) if _geometry(t) == _geometry(tensor)
                ]
                if not same:
                    raise Aliased
                self._register(tensor, self.value_name(same[-1]))
        name = self._names[id(tensor)]
        if name is None:
            raise Aliased
        return name

    def new_result(self, tensor: Tensor, base: str) -> str:
        """Add the value that a call returned, and return its name."""
        return self._register(tensor, self.new_value(base, tuple(tensor.shape), tensor.dtype))

    def new_value(self, base: str, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> str:
        """Add a value that is not a recorded tensor, and return its name."""
        name, number = base, 0
        while name in self.graph.values:
            number += 1
            name = f"{base}_{number}"
        self.graph.values[name] = Value(name, shape, dtype)
        return name

    def set_value(self, tensor: Tensor, name: str) -> None:
        """Note that what a call returned is a value that is there already."""
        self._register(tensor, name)

    def add_constant(self, tensor: Tensor, data: Tensor, name: str = "", origin: str = "") -> None:
        """Make a recorded tensor a constant: `name` in the network, or made of the tensor `origin`."""
        # Not of the recorded tensor's shape, which may have been resized since.
        value = self._register(tensor, self.new_value(name or "constant", tuple(data.shape), data.dtype))
        self.constants[value] = data
        self._state_names[value] = name or origin

    def constant_data(self, tensor: object) -> Tensor | None:
        """Return the data of a recorded tensor that is constant, or None."""
        return self.constants.get(self.value_name(tensor)) if isinstance(tensor, Tensor) else None

    def state_name(self, tensor: Tensor) -> str:
        """Return the name in the network's state that a constant comes from, empty where there is none."""
        return self._state_names.get(self.value_name(tensor), "")

    def constant_array(self, tensor: Tensor, what: str) -> Floats:
        """Return a constant as an array, without a copy where its layout allows it; raises `Unsupported`."""
        data = self.constant_data(tensor)
        if data is None:
            raise Unsupported(f"its {what} is computed, not constant")
        if data.dtype != torch.float32:
            raise Unsupported(f"its {what} is {str(data.dtype).removeprefix('torch.')}")
        return np.ascontiguousarray(data.numpy())

    def image_value(self, tensor: Tensor) -> str:
        """Return the name of a float32 [n, c, h, w] value; raises `Unsupported` where it is not one."""
        if tensor.ndim != 4:
            raise Unsupported(f"its input has {tensor.ndim} dimensions, not 4")
        return self.float_value(tensor)

    def float_value(self, tensor: Tensor) -> str:
        """Return the name of a float32 value; raises `Unsupported` where it is not one."""
        if tensor.dtype != torch.float32:
            raise Unsupported(f"its input is {str(tensor.dtype).removeprefix('torch.')}")
        if tensor.numel() == 0:
            raise Unsupported("its input is empty")
        if (name := self.value_name(tensor)) in self.constants:
            raise Unsupported("its input is constant")
        return name

    def check_not_read(self, results: Sequence[Tensor | None]) -> None:
        """Raise `Unsupported` if one of these results is read."""
        if any(id(result) in self._read_ids for result in results if result is not None):
            raise Unsupported("its further results are read")

    def add(self, operator: Operator) -> None:
        """Append an operator."""
        self.graph.operators.append(operator)

    def add_fallback(self, calls: Sequence[TorchCall], outputs: Sequence[str], reason: str) -> None:
        """Append a fallback."""
        reads = list(dict.fromkeys(name for call in calls for name in call.reads()))
        made = {name for call in calls for name in call.outputs}
        self.add(fallback(calls, [name for name in reads if name not in made], outputs, reason))

    def refs(self, arguments: Any) -> Any:
        """Return arguments with their tensors as references to values."""
        return tree_map_only(Tensor, lambda tensor: Ref(self.value_name(tensor)), arguments)

    def fold_constants(self, call: RecordedCall, target: OpOverload) -> bool:
        """Compute a call whose tensors are all constants; False where it must stay."""
        leaves = _tensors((call.args, call.kwargs))
        if torch.Tag.nondeterministic_seeded in target.tags or not self._are_constant(leaves):
            return False
        args, kwargs = tree_map_only(Tensor, self.constant_data, (call.args, call.kwargs))
        with torch.no_grad():
            result = target(*args, **kwargs)
        parts = result if isinstance(result, tuple | list) else [result]
        # A parameter rather than its mask.
        origins = [name for leaf in leaves if (name := self.state_name(leaf))]
        origin = next((name for name in origins if name in self._parameters), "".join(origins[:1]))
        for tensor, part in zip(call.outputs(), parts, strict=True):
            if tensor is not None:
                self.add_constant(tensor, part, origin=origin)
        return True

    def fold_constants_in_place(self, call: RecordedCall, mutated: Sequence[Tensor]) -> bool:
        """Compute a call that writes in place, if its tensors are all constants; False where it must stay."""
        leaves = _tensors((call.args, call.kwargs))
        if torch.Tag.nondeterministic_seeded in call.target.tags or not self._are_constant(leaves):
            return False
        if len(mutated) != 1 or any(t is not None and not _same_view(t, mutated[0]) for t in call.outputs()):
            return False
        written = self.constants[self.value_name(mutated[0])].clone()
        args, kwargs = tree_map_only(
            Tensor, lambda t: written if t is mutated[0] else self.constant_data(t), (call.args, call.kwargs)
        )
        with torch.no_grad():
            call.target(*args, **kwargs)
        origin = self.state_name(mutated[0])
        self.add_constant(mutated[0], written, origin=origin)
        self.note_write(mutated[0], self.value_name(mutated[0]))
        return True

    def _are_constant(self, tensors: Sequence[Tensor]) -> bool:
        return all(self.constant_data(tensor) is not None for tensor in tensors)

    def note_write(self, tensor: Tensor, name: str) -> None:
        """Note that a recorded tensor was written and is now the value `name`; other views of it become unknown."""
        for other in self._views.get(storage_id(tensor), []):
            self._names[id(other)] = name if _same_view(other, tensor) else None

    def finish(self, result: Sequence[Tensor]) -> Graph:
        """Return the graph with these outputs and the constants that it needs."""
        graph = self.graph
        graph.outputs = [self.value_name(tensor) for tensor in result]
        # Weights of native operators are within these.
        needed = {*graph.outputs}.union(*(reads(operator) for operator in graph.operators))
        graph.constants = {name: data for name, data in self.constants.items() if name in needed}
        for name in self.constants.keys() - graph.constants.keys():
            del graph.values[name]
        return graph

    def _register(self, tensor: Tensor, name: str) -> str:
        if tensor.device.type != "cpu":
            raise RuntimeProgramError(
                f"the network makes a tensor on {tensor.device.type}, but the runtime is for the CPU; use .cpu()"
            )
        self._names[id(tensor)] = name
        if isinstance(tensor, FakeTensor):
            self._views.setdefault(storage_id(tensor), []).append(tensor)
        return name


def base_name(target: OpOverload) -> str:
    """Return what the results of an operator are called."""
    return short_name(target).replace(".", "_").strip("_")


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _same_view(one: Tensor, other: Tensor) -> bool:
    return storage_id(one) == storage_id(other) and _geometry(one) == _geometry(other)


def _geometry(tensor: Tensor) -> tuple[object, ...]:
    return tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype


def _memory_key(tensor: Tensor) -> tuple[object, ...]:
    return tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype
