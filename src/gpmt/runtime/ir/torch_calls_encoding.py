"""Calls of PyTorch as plain data, and back; nothing but public operators is called from a file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from gpmt.errors import RuntimeProgramError
from gpmt.runtime.ir.torch_calls import Ref, TorchCall, TorchCalls
from gpmt.torch_private import OpOverload, overload_name, schema

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


def encode_calls(calls: TorchCalls) -> dict[str, Any] | None:
    """Return calls as plain data that JSON can hold, or None where `decode_calls` would refuse them."""
    try:
        encoded = [
            [_name_of(call.target), _encode(list(call.args)), _encode_table(call.kwargs), list(call.outputs)]
            for call in calls.calls
        ]
    except _NotPlainError:
        return None
    return {"calls": encoded, "inputs": list(calls.inputs), "outputs": list(calls.outputs)}


def decode_calls(data: object) -> TorchCalls:
    """Return the calls that `encode_calls` described: of operators of aten, prims and torchvision only.

    Raises:
        RuntimeProgramError: another operator, or data of another structure.
    """
    table = data if isinstance(data, dict) else {}
    match table:
        case {"calls": list(calls), "inputs": list(inputs), "outputs": list(outputs)} if len(table) == 3:
            pass
        case _:
            raise _damaged("it has no calls, inputs and outputs")
    known = set(_read_names(inputs))
    decoded = []
    for entry in calls:
        call = _decode_call(entry)
        if missing := set(call.reads()) - known:
            raise _damaged(f"{entry[0]} reads {min(missing)!r} before it is made")
        known |= {result for result in call.outputs if result is not None}
        decoded.append(call)
    if missing := set(_read_names(outputs)) - known:
        raise _damaged(f"no call makes its output {min(missing)!r}")
    return TorchCalls(decoded, inputs, outputs)


def _decode_call(entry: Any) -> TorchCall:
    match entry:
        case [str(name), list(args), dict(kwargs), list(results)]:
            pass
        case _:
            raise _damaged("a call is not [name, arguments, named arguments, results]")
    if not all(isinstance(key, str) for key in kwargs):
        raise _damaged("an argument has no name")
    call = TorchCall(
        _find(name),
        tuple(_decode(arg) for arg in args),
        {key: _decode(arg) for key, arg in kwargs.items()},
        tuple(result if result is None else _read_names([result])[0] for result in results),
    )
    _check_enumerations(name, call)
    return call


def _check_enumerations(name: str, call: TorchCall) -> None:
    """Refuse numbers for dtypes, layouts and memory formats: PyTorch takes any number, and then crashes."""
    arguments = schema(call.target).arguments
    given = [*zip(arguments, call.args, strict=False), *((a, call.kwargs.get(a.name)) for a in arguments)]
    for argument, value in given:
        wanted = _ENUMERATIONS.get(str(argument.real_type).removeprefix("Optional[").removesuffix("]"))
        if wanted is not None and value is not None and not isinstance(value, wanted):
            raise _damaged(f"{name} has {value!r} for its {argument.name}, which is not a {wanted.__name__}")


class _NotPlainError(Exception):
    """An operator or argument that plain data cannot describe."""


_ENUMERATIONS = {"ScalarType": torch.dtype, "Layout": torch.layout, "MemoryFormat": torch.memory_format}
_SPECIAL = {"dtype": torch.dtype, "layout": torch.layout, "memory_format": torch.memory_format}


def _allowed(namespace: str, name: str) -> bool:
    internal = name.startswith("_") and name not in _INTERNAL
    return namespace in NAMESPACES and not internal and name not in _REFUSED


def _name_of(target: OpOverload) -> str:
    namespace, _, name = schema(target).name.partition("::")
    if not _allowed(namespace, name):
        raise _NotPlainError
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
    raise _NotPlainError


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
    raise _damaged(f"{value!r} is not an argument of a call")


def _read_names(names: Sequence[Any]) -> list[str]:
    for name in names:
        if not isinstance(name, str):
            raise _damaged(f"{name!r} is not the name of a value")
    return list(names)


def _damaged(what: str) -> RuntimeProgramError:
    return RuntimeProgramError(f"the program has a damaged step on PyTorch: {what}; save it again")
