"""`torch.compile(network, backend="gpmt")`: programs for the parts of a network that PyTorch's compiler captures.

Weights are copied into programs, as by `gpmt.compile`. PyTorch may call the code of one layer with the weights of
another, so each call compares which weights it is given, and whether they were changed, with those in the program.
"""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from gpmt.errors import RuntimeProgramError
from gpmt.runtime.frontend.capture import capture
from gpmt.runtime.frontend.record import Aliased, Recording, record
from gpmt.runtime.ir.operators import Fallback, Reshape, Slice
from gpmt.runtime.passes.pipeline import optimize
from gpmt.runtime.program import build
from gpmt.runtime.threads.locks import new_lock
from gpmt.torch_private import is_static_input, schema, storage_id, tree_leaves, write_count

_MAX_SHAPES = 8
_MAX_WEIGHT_CHANGES = 3
_OPTIONS = ("threads", "tune")

Forward = Callable[..., Any]


def gpmt(
    module: fx.GraphModule,
    example_inputs: Sequence[Any],
    *,
    options: Mapping[str, Any] | None = None,
    mode: str | None = None,
) -> Forward:
    """Compile what PyTorch has captured; what is not float32 inference on the CPU stays on PyTorch, with a warning.

    Args:
        module: the captured part.
        example_inputs: what it is called with, weights among them; nothing is compiled before the first call.
        options: `threads` and `tune`, as for `gpmt.compile`.
        mode: of torch.compile; this backend has none.

    Raises:
        RuntimeProgramError: another option, or a mode.
    """
    odd = sorted({*(options or {})} - {*_OPTIONS})
    if odd or mode:
        what = f"option {odd[0]!r}" if odd else f"mode {mode!r}"
        raise RuntimeProgramError(f"the backend gpmt has no {what}; it has the options {', '.join(_OPTIONS)}")
    weights = [
        index
        for index, given in enumerate(example_inputs)
        if isinstance(given, nn.Parameter) or is_static_input(given)
    ]
    return _CapturedPart(module, weights, dict(options or {}))


class _CapturedPart:
    """A captured part of a network, with a program for every set of weights and shapes that it is called with."""

    def __init__(self, module: fx.GraphModule, weights: list[int], options: dict[str, Any]) -> None:
        self._module = module
        self._weights = weights
        self._is_weight = {*weights}
        self._options = options
        self._state = [*module.parameters(), *module.buffers()]
        self._programs: dict[tuple[object, ...], _CompiledCall] = {}
        self._weight_changes = 0
        self._warned: set[str] = set()
        self._lock = new_lock()

    def __call__(self, *args: Any) -> Any:
        reason = self._obstacle(args)
        if reason:
            return self._stay_on_pytorch(reason)(*args)
        weights = [*(args[index] for index in self._weights), *self._state]
        key = (*map(id, weights), *(_shape_key(a) for i, a in enumerate(args) if i not in self._is_weight))
        found = self._programs.get(key)
        if found is None or not found.fits(weights):
            found = self._compile_or_find(key, weights, args)
        return found.run(*args)

    def _obstacle(self, args: Sequence[Any]) -> str:
        """Say why a call must be PyTorch's, if it must."""
        if torch.is_grad_enabled() and any(
            isinstance(a, Tensor) and a.requires_grad for a in (*args, *self._state)
        ):
            return "gradients may be wanted; call it under torch.no_grad()"
        if torch.is_autocast_enabled("cpu"):
            return "autocast is on, but the runtime computes in float32; call it outside of autocast"
        return ""

    def _compile_or_find(
        self, key: tuple[object, ...], weights: Sequence[Tensor], args: Sequence[Any]
    ) -> _CompiledCall:
        with self._lock:
            self._programs = {k: run for k, run in self._programs.items() if run.alive()}
            found = self._programs.get(key)
            if found is not None and found.fits(weights):
                return found
            self._weight_changes += found is not None
            count = len(weights)
            if self._weight_changes > _MAX_WEIGHT_CHANGES:
                run = self._stay_on_pytorch(
                    "its weights change between calls, and each time it would be compiled again; change them before "
                    "the first call"
                )
            elif sum(k[:count] == key[:count] for k in self._programs) >= _MAX_SHAPES and found is None:
                run = self._stay_on_pytorch(f"it was called with more than {_MAX_SHAPES} different shapes")
            else:
                run = self._compile(args)
            self._programs[key] = _CompiledCall(run, weights)
            return self._programs[key]

    def _compile(self, args: Sequence[Any]) -> Forward:
        names = [str(node.target) for node in self._module.graph.nodes if node.op == "placeholder"]
        bound = {
            i: (names[i], given)
            for i, given in enumerate(args)
            if i in self._is_weight or not isinstance(given, Tensor)
        }
        inputs = [given for i, given in enumerate(args) if i not in bound]
        closed = _BoundPart(self._module, bound, len(args))
        try:
            _check_effects(closed, inputs)
            graph, signature = capture(closed, inputs)
            graph = optimize(graph)
            if all(isinstance(operator, Fallback | Reshape | Slice) for operator in graph.operators):
                return self._module.forward  # there is nothing to gain
            program = build(signature, graph, **self._options)
        except Aliased:
            return self._stay_on_pytorch("it changes the shape of a tensor in place")
        except RuntimeProgramError as error:
            return self._stay_on_pytorch(str(error))
        return lambda *given: program(*(given[i] for i in range(len(given)) if i not in bound))

    def _stay_on_pytorch(self, reason: str) -> Forward:
        """Warn, once for each reason, and return what PyTorch does."""
        if reason not in self._warned:
            self._warned.add(reason)
            warnings.warn(
                "torch.compile with the backend gpmt leaves a part of the network to PyTorch, where pruned weights "
                f"cost as much as others: {reason}",
                RuntimeWarning,
                stacklevel=3,
            )
        forward: Forward = self._module.forward
        return forward


class _CompiledCall:
    """What runs for calls with certain weights, as long as they do not change."""

    def __init__(self, run: Forward, weights: Sequence[Tensor]) -> None:
        self.run = run
        self._weights = [_WeightSnapshot(tensor) for tensor in weights]

    def fits(self, weights: Sequence[Tensor]) -> bool:
        """Whether these are the same weights with the same values."""
        return all(known.is_still(given) for known, given in zip(self._weights, weights, strict=True))

    def alive(self) -> bool:
        """Whether its weights are still there, so that nothing else can have their ids."""
        return all(weight.tensor() is not None for weight in self._weights)


class _WeightSnapshot:
    """A tensor as it was: its write count shows in-place changes, its address that `.data` was set."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = weakref.ref(tensor, self._forget)
        self._write_count = write_count(tensor)
        self._address = tensor.data_ptr()
        # As long as it is held, nothing else can have its address.
        self._memory: object = tensor.untyped_storage()

    def is_still(self, given: Tensor) -> bool:
        """Whether a tensor is this one, with the same values."""
        if self.tensor() is not given or self._address != given.data_ptr():
            return False
        return self._write_count == write_count(given)

    def _forget(self, _: object) -> None:
        self._memory = None


class _BoundPart(nn.Module):
    """A part with its weights and numbers bound: it is called with the other tensors only."""

    def __init__(self, module: fx.GraphModule, bound: Mapping[int, tuple[str, Any]], count: int) -> None:
        super().__init__()
        self.part = module
        self._given = {i: value for i, (_, value) in bound.items()}
        self._count = count
        for name, value in bound.values():
            if isinstance(value, nn.Parameter):
                self.register_parameter(name, value)
            elif isinstance(value, Tensor):
                self.register_buffer(name, value)

    def forward(self, *inputs: Tensor) -> Any:
        """Call the part."""
        rest = iter(inputs)
        return self.part(*(self._given[i] if i in self._given else next(rest) for i in range(self._count)))


def _check_effects(module: nn.Module, inputs: Sequence[Tensor]) -> None:
    """Raise `RuntimeProgramError` where a part has effects beside new tensors, `Aliased` where that is unknown."""
    try:
        recording = record(module, inputs, {})
    except (RuntimeProgramError, Aliased):
        raise
    except Exception as error:  # the network is anyone's code
        raise RuntimeProgramError(f"it cannot be captured ({error})") from error
    if _writes_inputs(recording):
        raise RuntimeProgramError("it changes its input in place")
    for call in recording.calls:
        if "batch_norm" in schema(call.target).name or "instance_norm" in schema(call.target).name:
            bound = call.bound()
            if bound.get("running_mean") is not None and bound.get("training", bound.get("use_input_stats")):
                raise RuntimeProgramError("batch-norm is in training mode; call .eval() first")
    results = [storage_id(leaf) for leaf in tree_leaves(recording.result) if isinstance(leaf, Tensor)]
    others = {storage_id(tensor) for tensor in [*recording.inputs, *module.parameters(), *module.buffers()]}
    if len({*results}) != len(results) or not others.isdisjoint(results):
        raise RuntimeProgramError("what it returns shares memory with its input or among itself")


def _writes_inputs(recording: Recording) -> bool:
    given = {storage_id(tensor) for tensor in recording.inputs}
    return any(storage_id(tensor) in given for call in recording.calls for tensor in call.mutated())


def _shape_key(value: Any) -> object:
    return (value.shape, value.dtype, value.device) if isinstance(value, Tensor) else (type(value), value)
