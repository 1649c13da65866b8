"""The calls that a network makes to PyTorch, recorded without computing anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from gpmt.errors import RuntimeProgramError
from gpmt.runtime.frontend.module_attributes import attributes_restored
from gpmt.runtime.ir.torch_calls import bind
from gpmt.torch_private import (
    READ_SCALAR,
    FakeTensor,
    FakeTensorMode,
    OpOverload,
    TorchDispatchMode,
    compiled_from,
    disable_current_modes,
    schema,
    storage_id,
    tree_leaves,
)


class Aliased(Exception):
    """A tensor changes under another name than it is read by later: record the network functionally."""


@dataclass(frozen=True, eq=False)
class RecordedCall:
    """One call of an ATen operator; tensors that the network computes have no data, its parameters and buffers do."""

    target: OpOverload
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any

    def bound(self) -> dict[str, Any]:
        """Return all arguments by the names in the operator's schema, defaults included."""
        return bind(self.target, self.args, self.kwargs)

    def outputs(self) -> list[Tensor | None]:
        """Return the results of the call, with None for what is not a tensor."""
        parts = self.result if isinstance(self.result, tuple | list) else [self.result]
        return [part if isinstance(part, Tensor) else None for part in parts]

    def mutated(self) -> list[Tensor]:
        """Return the arguments that the call writes into."""
        if not schema(self.target).is_mutable:
            return []
        bound = self.bound()
        written = [
            bound[a.name] for a in schema(self.target).arguments if a.alias_info and a.alias_info.is_write
        ]
        return [leaf for leaf in tree_leaves(written) if isinstance(leaf, Tensor)]


@dataclass
class Recording:
    """One call of a network: its calls of ATen in order, the tensors that it was given, and what it returned."""

    inputs: list[Tensor]
    calls: list[RecordedCall] = field(default_factory=list)
    result: Any = None


_FROM_NUMBERS = torch.ops.aten.lift_fresh.default  # torch.tensor in forward
# May return their arguments, although their schemas do not say so.
_ALIASING = torch.ops.aten.type_as.default, torch.ops.aten.broadcast_tensors.default
_READ_ELEMENT = torch.ops.aten.item.default, READ_SCALAR


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, calls: list[RecordedCall], names: Mapping[int, str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls = calls
        self.names = names
        self.network_storages: set[int] = set()  # as seen through views

    def __torch_dispatch__(
        self,
        func: OpOverload,
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        written = RecordedCall(func, args, kwargs, None).mutated()
        for tensor in written:
            if not isinstance(tensor, FakeTensor) or storage_id(tensor) in self.network_storages:
                name = self.names.get(id(tensor))
                raise RuntimeProgramError(
                    f"the network changes {name or 'a tensor that it keeps'} while it runs, but a compiled program "
                    "has no state; switch that off, for example with .eval()"
                )
        if func in _READ_ELEMENT and not isinstance(args[0], FakeTensor):
            with disable_current_modes():
                return args[0].item()
        if torch.Tag.inplace_view in func.tags and func is not torch.ops.aten.detach_.default:
            raise Aliased
        result = _batch_norm_result(func, args, kwargs)
        if result is None:
            result = func(*args, **kwargs)
        aliases = any(r.alias_info and not r.alias_info.is_write for r in schema(func).returns)
        if (aliases and func is not _FROM_NUMBERS) or func in _ALIASING:
            self._note_views(func, args, result)
        if written or any(isinstance(leaf, Tensor) for leaf in tree_leaves(result)):
            self.calls.append(RecordedCall(func, args, kwargs, result))
        return result

    def _note_views(self, func: OpOverload, args: tuple[Any, ...], result: Any) -> None:
        """Remember what may share memory with the network's tensors; what has another type is a copy."""
        for tensor in tree_leaves(args):
            if not isinstance(tensor, Tensor):
                continue
            if isinstance(tensor, FakeTensor) and storage_id(tensor) not in self.network_storages:
                continue
            if func is not torch.ops.aten.contiguous.default or tensor.is_contiguous():
                views = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
                self.network_storages |= {storage_id(view) for view in views if view.dtype == tensor.dtype}


def _batch_norm_result(func: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """Return what batch-norm in evaluation mode returns; PyTorch takes milliseconds to find out its shape."""
    if func is not torch.ops.aten.batch_norm.default:
        return None
    bound = bind(func, args, kwargs)
    source = bound["input"]
    statistics = [bound[name] for name in ("weight", "bias", "running_mean", "running_var")]
    fit = all(t is None or t.numel() == source.shape[1] for t in statistics) if source.ndim > 1 else False
    if bound["training"] or not fit or source.dtype != torch.float32:
        return None
    return torch.empty_like(source)


def record(
    module: nn.Module, positional: Sequence[Tensor], named: Mapping[str, Tensor], *, functional: bool = False
) -> Recording:
    """Run a network on tensors without data and record its calls; composite operators such as linear stay whole.

    Args:
        module: in evaluation mode; its attributes are afterwards as before.
        positional, named: what its forward is called with; only shapes, strides and dtypes matter.
        functional: whether writing in place becomes calls that make new tensors.

    Raises:
        RuntimeProgramError: the network writes into its buffers.
        Aliased: only a functional recording can tell what the network does.
        Exception: what the network raises, also where it looks at values.
    """
    names = {id(t): name for name, t in [*module.named_parameters(), *module.named_buffers()]}
    # Parameters stay real, so that the calls say which of them they read.
    fakes = FakeTensorMode(allow_non_fake_inputs=True)
    inputs = [*positional, *named.values()]
    # As they lie in memory: whether forward may `view` them depends on it.
    strides = [torch.empty_like(t, device="meta").stride() for t in inputs]
    plain = torch.autocast("cpu", enabled=False)
    with _eager(module), attributes_restored(module), torch.inference_mode(), plain, fakes:
        given = [
            torch.empty_strided(t.shape, steps, dtype=t.dtype, device=t.device)
            for t, steps in zip(inputs, strides, strict=True)
        ]
        recording = Recording(given)
        split = len(positional)
        arguments = given[:split], dict(zip(named, given[split:], strict=True))
        forward = _functional(module) if functional else module
        with _Recorder(recording.calls, names):
            recording.result = forward(*arguments[0], **arguments[1])
    return recording


def _functional(module: nn.Module) -> Callable[..., Any]:
    """Return the network with every write in place made a new tensor, also to copies of its buffers."""
    state = {**dict(module.named_parameters()), **dict(module.named_buffers())}

    def forward(state: dict[str, Tensor], args: Any, kwargs: Any) -> Any:
        return torch.func.functional_call(module, state, args, kwargs)

    return lambda *args, **kwargs: torch.func.functionalize(forward)(state, args, kwargs)


@contextmanager
def _eager(module: nn.Module) -> Iterator[None]:
    """Switch off what PyTorch fuses itself: torch.compile inside the network, and whole transformer layers."""
    compiled = any(compiled_from(part) is not None for part in module.modules())
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.compiler.set_stance("force_eager") if compiled else nullcontext():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
