"""Signals through a whole network: its calls of ATen are recorded without data, and rules pass signals on."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from gpmt.errors import GpmtError, RuntimeProgramError, first_sentence
from gpmt.model_tools import Example, evaluating, program_kind, quiet, split_example
from gpmt.reachability import contractions, mixing, recurrent  # noqa: F401 - each registers its rules
from gpmt.reachability.elementwise import is_pointwise, pointwise
from gpmt.reachability.rules import RULES
from gpmt.reachability.signal import Call, Signal, binary, ones
from gpmt.runtime.frontend.record import RecordedCall, Recording, record
from gpmt.torch_private import FAKE_TENSOR_LOGGER, FakeTensor, storage_id, tree_leaves, tree_map_only

_MOST_CONSTANTS = 1 << 24


def record_network(model: nn.Module, example: Example) -> Recording:
    """Record a network in evaluation mode on tensors of the example's shapes; it is afterwards as before.

    Raises `GpmtError`, with the reason, for one whose calls cannot be recorded.
    """
    positional, named = split_example(example, GpmtError)
    for name, tensor in [*((f"input {i}", t) for i, t in enumerate(positional)), *named.items()]:
        if not isinstance(tensor, Tensor) or tensor.layout != torch.strided:
            raise GpmtError(
                f"{name} of the example is not a dense tensor; give one of the shape that the network takes"
            )
    if kind := program_kind(model):
        raise GpmtError(
            f"the network is {kind}, which hides its forward; give the module that it was made from"
        )
    positional, named = tree_map_only(Tensor, partial(_beside, model), (positional, named))
    failure: Exception | None = None
    with evaluating(model), quiet(FAKE_TENSOR_LOGGER):
        # Functional calls do not write into tensors that others see; some networks cannot be recorded like that.
        for functional in (True, False):
            try:
                return record(model, positional, named, functional=functional)
            except RuntimeProgramError:
                raise
            except Exception as error:  # the network is anyone's code
                failure = error
    assert failure is not None
    raise GpmtError(
        f"{type(model).__name__} cannot be followed from its input to its output ({_reason(failure)})"
    ) from failure


def _beside(model: nn.Module, tensor: Tensor) -> Tensor:
    """Return a tensor of the same shape on the device and, where floating, in the dtype of a network's weights."""
    like = next((p for p in model.parameters() if p.is_floating_point()), tensor)
    dtype = like.dtype if tensor.is_floating_point() else tensor.dtype
    return tensor if tensor.device == like.device and tensor.dtype == dtype else tensor.to(like.device, dtype)


def _reason(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "/torch/" not in frame.filename and "/gpmt/" not in frame.filename]
    where = f", {own[-1].filename}, line {own[-1].lineno}" if own else ""
    return f"{type(error).__name__}: {first_sentence(error)}{where}"


@dataclass
class Links:
    """What a network passes on, given which weights are kept.

    Attributes:
        active: name -> bool mask of the kept weights that are linked to the input and to the output.
        unused: names of tensors that the network does not read.
        conservative: operators without a rule, of which every result is taken to depend on every argument.
    """

    active: dict[str, Tensor]
    unused: tuple[str, ...]
    conservative: tuple[str, ...]


def find_links(
    model: nn.Module, recording: Recording, tensors: Mapping[str, Tensor], kept: Mapping[str, Tensor]
) -> Links:
    """Tell which kept weights are on a path of kept weights from the network's input to its output.

    Args:
        model: the network that was recorded.
        recording: its calls.
        tensors: name -> the network's own tensor, for those whose weights are judged; all others count as non-zero.
        kept: name -> bool mask of each, on the device to compute on.
    """
    with torch.inference_mode(False), torch.enable_grad():
        masks = {name: mask.to(torch.float32).requires_grad_() for name, mask in kept.items()}
        keys = {_memory_key(tensor): masks[name] for name, tensor in tensors.items()}
        walk = _Walk(model, recording, keys, next(iter(masks.values())).device)
        for call in recording.calls:
            walk.follow(call)
        ends = [
            walk.signal(leaf).reached for leaf in tree_leaves(recording.result) if isinstance(leaf, Tensor)
        ]
        linked = [end.sum() for end in ends if end is not None and end.requires_grad]
        grads: Sequence[Tensor | None] = [None] * len(masks)
        if linked:
            total = torch.stack(linked).sum()
            grads = torch.autograd.grad(total, list(masks.values()), allow_unused=True)
    active = {
        name: torch.zeros_like(kept[name]) if grad is None else kept[name] & grad.ne(0)
        for name, grad in zip(masks, grads, strict=True)
    }
    unused = tuple(name for name, mask in masks.items() if id(mask) not in walk.read)
    return Links(active, unused, tuple(sorted(walk.conservative)))


@dataclass
class _Walk:
    model: nn.Module
    recording: Recording
    masks: dict[tuple[object, ...], Tensor]
    device: torch.device
    signals: dict[int, Signal | None] = field(default_factory=dict)
    views: dict[int, list[Tensor]] = field(default_factory=dict)
    conservative: set[str] = field(default_factory=set)
    read: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.parameters = {_memory_key(parameter) for parameter in self.model.parameters()}
        trees = [self.recording.result, *((call.args, call.kwargs) for call in self.recording.calls)]
        self.read_later = {id(leaf) for leaf in tree_leaves(trees) if isinstance(leaf, Tensor)}
        self.like = torch.ones((), dtype=torch.float32, device=self.device)
        for tensor in self.recording.inputs:
            everywhere = ones(tensor.shape, self.like)
            self.note(tensor, Signal(everywhere, everywhere))

    def note(self, tensor: Tensor, signal: Signal) -> None:
        self.signals[id(tensor)] = signal
        if len(self.signals) % 64 == 0:
            signal.nonzero  # noqa: B018 - computed now, so that what waits to be computed does not grow too deep
        if isinstance(tensor, FakeTensor):
            self.views.setdefault(storage_id(tensor), []).append(tensor)

    def signal(self, tensor: Tensor) -> Signal:
        if id(tensor) not in self.signals:
            self.note(tensor, self._made_without_call(tensor))
        found = self.signals[id(tensor)]
        if found is None:
            raise GpmtError(
                f"{type(self.model).__name__} cannot be followed from its input to its output (it writes into a "
                "tensor that it also reads under another shape)"
            )
        return found

    def _made_without_call(self, tensor: Tensor) -> Signal:
        """Return the signal of a tensor of the network, of a constant, or of `tensor.data`."""
        if isinstance(tensor, FakeTensor):
            for other in reversed(self.views.get(storage_id(tensor), [])):
                if _geometry(other) == _geometry(tensor):
                    return self.signal(other)
            return Signal(ones(tensor.shape, self.like))
        key = _memory_key(tensor)
        if key in self.masks:
            self.read.add(id(self.masks[key]))
            return Signal(self.masks[key])
        if tensor.device.type == "meta" or key in self.parameters:
            return Signal(ones(tensor.shape, self.like))
        constant = tensor.detach()
        data = constant if _is_whole(constant) else None
        return Signal(constant.ne(0).to(self.like), data=data)

    def follow(self, recorded: RecordedCall) -> None:
        """Compute the signals of what one call returned."""
        args, kwargs = tree_map_only(Tensor, self.signal, (recorded.args, recorded.kwargs))
        written = recorded.mutated()
        call = Call(recorded.target, args, kwargs, recorded.outputs(), self.conservative)
        signals = self._constants(call) if not written else None
        signals = signals or self._by_rule(call)
        for tensor, signal in zip(call.results, signals, strict=False):
            if tensor is not None:
                self.note(tensor, signal)
        if written:
            self._write(written, signals)

    def _write(self, written: Sequence[Tensor], signals: Sequence[Signal]) -> None:
        """Note a write in place; other views of the memory are known no more."""
        for tensor, signal in zip(written, signals, strict=False):
            for other in self.views.get(storage_id(tensor), []):
                self.signals[id(other)] = signal if _geometry(other) == _geometry(tensor) else None

    def _constants(self, call: Call) -> list[Signal] | None:
        """Compute whole numbers that depend on nothing, such as positions and masks."""
        results = call.results
        if not all(signal.data is not None for signal in call.signals):
            return None
        if torch.Tag.nondeterministic_seeded in call.target.tags or not all(
            result is not None and _is_whole(result) for result in results
        ):
            return None
        with torch.no_grad():
            found = call.run(lambda signal: signal.data)
        return [Signal(data.ne(0).to(self.like), data=data) for data in found]

    def _by_rule(self, call: Call) -> list[Signal]:
        shapes = [None if result is None else result.shape for result in call.results]
        if call.name.startswith("new_") or call.name.endswith("_like") or not call.signals:
            full = torch.zeros_like if "zeros" in call.name else torch.ones_like
            return [Signal(full(self.like).expand(shape or ())) for shape in shapes]
        rule = RULES.get(call.name) or (pointwise if is_pointwise(call) else None)
        if rule is not None:
            try:
                found = rule(call)
            except Exception:  # a form of the operator that the rule does not know
                found = []
            signals = [found] if isinstance(found, Signal) else list(found)
            if signals and [signal.shape for signal in signals] == shapes[: len(signals)]:
                rest = call.results[len(signals) :]
                if not any(id(result) in self.read_later for result in rest if result is not None):
                    return signals
        return self._any_to_any(call)

    def _any_to_any(self, call: Call) -> list[Signal]:
        """Take every result to depend on every argument, and on every weight among them."""
        weights = [signal.nonzero.sum() for signal in call.signals if signal.is_weight]
        counts = [signal.reached.sum() for signal in call.signals if signal.reached is not None]
        if counts or weights:
            self.conservative.add(call.name)
        total = torch.stack(counts).sum() if counts else None
        if total is not None and weights:
            total = total + binary(total.detach()) * torch.stack(weights).sum()
        everything = Signal(torch.stack(weights).sum() if weights else ones((), self.like), total)
        return [
            Signal(self.like)
            if result is None
            else everything.summed(lambda t, shape=result.shape: t.expand(shape)).always()  # type: ignore[misc]
            for result in call.results
        ]


def _is_whole(tensor: Tensor) -> bool:
    """Whether a tensor holds whole numbers, few enough to compute with."""
    return not (tensor.is_floating_point() or tensor.is_complex()) and tensor.numel() <= _MOST_CONSTANTS


def _geometry(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype


def _memory_key(tensor: Tensor) -> tuple[object, ...]:
    place = storage_id(tensor) if tensor.device.type == "meta" else tensor.data_ptr()
    return (place, tensor.shape, tensor.stride(), tensor.dtype)
