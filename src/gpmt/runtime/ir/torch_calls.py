"""TorchCalls of PyTorch's operators as plain data: what a step on PyTorch runs, and how a file names it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from gpmt.errors import RuntimeProgramError
from gpmt.runtime.ir.graph import Fallback
from gpmt.torch_private import OpOverload, overload_name, schema, tree_leaves, tree_map_only

NAMESPACES = ("aten", "prims", "torchvision")

# Names with an underscore are internal: some of them check nothing, so that a crafted file could reach any memory.
_INTERNAL = {
    *(
        "_adaptive_avg_pool2d",
        "_addmm_activation",
        "_convolution",
        "_embedding_bag",
        "_log_softmax",
        "_softmax",
    ),
    *("_native_batch_norm_legit_no_training", "_native_batch_norm_legit", "_safe_softmax", "_to_copy"),
    *("_scaled_dot_product_attention_math", "_scaled_dot_product_flash_attention_for_cpu", "_unsafe_view"),
    *("__and__", "__or__", "__xor__", "__lshift__", "__rshift__"),
}
_REFUSED = {"from_file", "set_data"}  # open files; swap memory


@dataclass(frozen=True)
class Ref:
    """A tensor among the arguments of a call: the value of this name."""

    name: str


@dataclass(frozen=True, eq=False)
class TorchCall:
    """One call; `outputs` are the names of its results, None for those that are no tensors or that nobody reads."""

    target: OpOverload
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: tuple[str | None, ...]

    def reads(self) -> list[str]:
        """Return the names of the values among the arguments."""
        leaves = tree_leaves((self.args, self.kwargs), is_leaf=lambda leaf: isinstance(leaf, Ref))
        return [leaf.name for leaf in leaves if isinstance(leaf, Ref)]


class TorchCalls:
    """TorchCalls one after another, as one function of tensors.

    Results never share memory with the arguments; intermediate results are freed after their last reader.
    """

    def __init__(self, steps: Sequence[TorchCall], inputs: Sequence[str], outputs: Sequence[str]) -> None:
        self.steps = tuple(steps)
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        last = {name: index for index, step in enumerate(steps) for name in step.reads()}
        kept = {*self.outputs, *self.inputs}
        self._dead = [
            [name for name, end in last.items() if end == index and name not in kept]
            for index in range(len(steps))
        ]
        # Most calls have references at the top only; searching the others for them takes longer.
        self._plain = [
            sum(isinstance(arg, Ref) for arg in step.args) == len(step.reads()) for step in self.steps
        ]

    def __call__(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs for these inputs."""
        values: dict[str, Tensor] = dict(zip(self.inputs, tensors, strict=True))
        for step, plain, dead in zip(self.steps, self._plain, self._dead, strict=True):
            if plain:
                args = [values[a.name] if isinstance(a, Ref) else a for a in step.args]
                result = step.target(*args, **step.kwargs)
            else:
                args, kwargs = tree_map_only(Ref, lambda ref: values[ref.name], (step.args, step.kwargs))
                result = step.target(*args, **kwargs)
            parts = result if isinstance(result, tuple | list) else (result,)
            for name, part in zip(step.outputs, parts, strict=True):
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

        steps = [replace(step, args=rename(step.args), kwargs=rename(step.kwargs)) for step in self.steps]
        return TorchCalls(
            steps, list(dict.fromkeys(names.get(name, name) for name in self.inputs)), self.outputs
        )

    def stored(self) -> dict[str, Any] | None:
        """Return the calls as plain data that JSON can hold, or None where `restore_fallback` would refuse them."""
        try:
            calls = [
                [
                    _name_of(step.target),
                    _encode(list(step.args)),
                    _encode_table(step.kwargs),
                    list(step.outputs),
                ]
                for step in self.steps
            ]
        except _NotPlain:
            return None
        return {"calls": calls, "inputs": list(self.inputs), "outputs": list(self.outputs)}


def fallback(
    steps: Sequence[TorchCall], inputs: Sequence[str], outputs: Sequence[str], reason: str
) -> Fallback:
    """Return an operator on PyTorch that makes these calls, with its report and its stored form."""
    run = TorchCalls(steps, inputs, outputs)
    targets = list(dict.fromkeys(short_name(step.target) for step in steps))
    return Fallback(run.inputs, run.outputs, run, ", ".join(targets), reason, run.stored())


def short_name(target: OpOverload) -> str:
    """Return an operator's name for a report: `layer_norm`, or `torchvision.nms` where it is not PyTorch's own."""
    namespace, _, name = schema(target).name.partition("::")
    return name if namespace == "aten" else f"{namespace}.{name}"


def restore_fallback(stored: object) -> TorchCalls:
    """Return the function that `TorchCalls.stored` described; it calls operators of aten, prims and torchvision only.

    Raises `RuntimeProgramError` for anything else, and for data that is not of that form.
    """
    table = stored if isinstance(stored, dict) else {}
    match table:
        case {"calls": list(calls), "inputs": list(inputs), "outputs": list(outputs)} if len(table) == 3:
            pass
        case _:
            raise _damaged("it has no calls, inputs and outputs")
    known = set(_names(inputs))
    steps = []
    for call in calls:
        match call:
            case [str(name), list(args), dict(kwargs), list(results)]:
                pass
            case _:
                raise _damaged("a call is not [name, arguments, named arguments, results]")
        if not all(isinstance(key, str) for key in kwargs):
            raise _damaged("an argument has no name")
        step = TorchCall(
            _find(name),
            tuple(_decode(arg) for arg in args),
            {key: _decode(arg) for key, arg in kwargs.items()},
            tuple(result if result is None else _names([result])[0] for result in results),
        )
        _check_kinds(name, step)
        if missing := set(step.reads()) - known:
            raise _damaged(f"{name} reads {min(missing)!r} before it is made")
        known |= {result for result in step.outputs if result is not None}
        steps.append(step)
    if missing := set(_names(outputs)) - known:
        raise _damaged(f"no call makes its output {min(missing)!r}")
    return TorchCalls(steps, inputs, outputs)


def _check_kinds(name: str, step: TorchCall) -> None:
    """Refuse numbers for dtypes, layouts and memory formats: PyTorch takes any number, and then crashes."""
    arguments = schema(step.target).arguments
    given = [*zip(arguments, step.args, strict=False), *((a, step.kwargs.get(a.name)) for a in arguments)]
    for argument, value in given:
        wanted = _ENUMERATIONS.get(str(argument.real_type).removeprefix("Optional[").removesuffix("]"))
        if wanted is not None and value is not None and not isinstance(value, wanted):
            raise _damaged(f"{name} has {value!r} for its {argument.name}, which is no {wanted.__name__}")


class _NotPlain(Exception):
    """An operator or argument that has no stored form."""


_ENUMERATIONS = {"ScalarType": torch.dtype, "Layout": torch.layout, "MemoryFormat": torch.memory_format}
_SPECIAL = {"dtype": torch.dtype, "layout": torch.layout, "memory_format": torch.memory_format}


def _allowed(namespace: str, name: str) -> bool:
    internal = name.startswith("_") and name not in _INTERNAL
    return namespace in NAMESPACES and not internal and name not in _REFUSED


def _name_of(target: OpOverload) -> str:
    namespace, _, name = schema(target).name.partition("::")
    if not _allowed(namespace, name):
        raise _NotPlain
    return f"{namespace}.{name}.{overload_name(target)}"


def _find(full: str) -> OpOverload:
    parts = full.split(".")
    if len(parts) != 3 or not _allowed(parts[0], parts[1]):
        raise RuntimeProgramError(
            f"the program calls {full!r}, but only public operators of {', '.join(NAMESPACES)} may be called from a "
            "file; do not run it unless you know where it comes from"
        )
    if parts[0] == "torchvision":
        try:
            import torchvision  # noqa: F401  # registers its operators
        except ImportError:
            raise RuntimeProgramError(
                f"the program calls {full}, which comes with torchvision; install it (pip install torchvision)"
            ) from None
    packet = getattr(getattr(torch.ops, parts[0]), parts[1], None)
    target = getattr(packet, parts[2], None)
    if not isinstance(target, OpOverload):
        raise RuntimeProgramError(
            f"the program calls {full}, unknown to PyTorch {torch.__version__}; save it again with this version"
        )
    return target


def _encode(value: Any) -> Any:
    match value:
        case Ref(name=name):
            return {"value": name}
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else {"float": repr(value)}
        case list() | tuple():
            return [_encode(part) for part in value]
        case torch.device():
            return {"device": str(value)}
    for kind, cls in _SPECIAL.items():
        if isinstance(value, cls):
            return {kind: str(value).removeprefix("torch.")}
    raise _NotPlain


def _encode_table(table: dict[str, Any]) -> dict[str, Any]:
    return {key: _encode(value) for key, value in table.items()}


def _decode(value: Any) -> Any:
    match value:
        case None | bool() | int() | float() | str():
            return value
        case list():
            return [_decode(part) for part in value]
        case {"value": str(name)} if len(value) == 1:
            return Ref(name)
        case {"float": "inf" | "-inf" | "nan" as text} if len(value) == 1:
            return float(text)
        case {"device": "cpu"} if len(value) == 1:
            return torch.device("cpu")
        case dict() if len(value) == 1:
            ((kind, name),) = value.items()
            found = getattr(torch, name, None) if isinstance(name, str) else None
            if kind in _SPECIAL and isinstance(found, _SPECIAL[kind]):
                return found
    raise _damaged(f"{value!r} is no argument of a call")


def _names(names: Sequence[Any]) -> list[str]:
    for name in names:
        if not isinstance(name, str):
            raise _damaged(f"{name!r} is no name of a value")
    return list(names)


def _damaged(what: str) -> RuntimeProgramError:
    return RuntimeProgramError(f"the program has a damaged step on PyTorch: {what}; save it again")
