"""A PyTorch network as a graph of the runtime, for one shape of its inputs."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gpmt.errors import RuntimeProgramError, first_sentence
from gpmt.model_tools import Example, evaluating, program_kind, quiet, split_example, unwrap
from gpmt.runtime.frontend.aten import translate
from gpmt.runtime.frontend.call_signature import CallSignature
from gpmt.runtime.frontend.record import Aliased, record
from gpmt.runtime.ir.graph import Graph
from gpmt.runtime.onnx_frontend.network import OnnxNetwork
from gpmt.torch_private import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    tree_flatten,
)


class CaptureResult(NamedTuple):
    """A network as a graph, which refers to the network's weights, and the signature of its calls."""

    graph: Graph
    signature: CallSignature


def capture(model: nn.Module, example: Example, *, thorough: bool = True) -> CaptureResult:
    """Capture a network in evaluation mode for inputs of the example's shapes; nothing is optimized.

    Args:
        model: float32 on the CPU; its weights are referred to, not copied, and its modes are afterwards as before.
        example: a tensor, a sequence of tensors, or a mapping by argument name; values do not matter.
        thorough: whether to run the network on the example, and to try torch.export, where recording fails.

    Raises:
        RuntimeProgramError: another type or device, a network that does not run on the example, or one whose path
            depends on the values of its inputs.
    """
    model = unwrap(model)
    if kind := program_kind(model):
        raise RuntimeProgramError(
            f"the network is {kind}, which hides its forward; compile the module that it was made from"
        )
    positional, named = _tensors(example)
    _check_state(model)
    parameters = _parameters(model, len(positional))
    arguments = (*parameters[: len(positional)], *named)
    with evaluating(model):
        graph, result = _graph(model, positional, named, arguments, thorough)
    parts, structure = tree_flatten(result)
    leaves = {i: part for i, part in enumerate(parts) if not isinstance(part, Tensor)}
    for part in leaves.values():
        if not isinstance(part, None | bool | int | float | str):
            raise RuntimeProgramError(
                f"{type(model).__name__} returns a {type(part).__name__}, but a program returns tensors and tuples, "
                "lists, dicts or registered dataclasses of them; wrap the network in one that returns those"
            )
    return CaptureResult(graph, CallSignature(arguments, parameters, structure, leaves))


def _graph(
    model: nn.Module,
    positional: Sequence[Tensor],
    named: Mapping[str, Tensor],
    arguments: Sequence[str],
    thorough: bool,
) -> tuple[Graph, Any]:
    def attempt(module: nn.Module) -> tuple[Graph, Any]:
        try:
            recording = record(module, positional, named)
            return translate(model, recording, list(arguments)), recording.result
        except Aliased:
            recording = record(module, positional, named, functional=True)
            return translate(model, recording, list(arguments)), recording.result

    try:
        return attempt(model)
    except RuntimeProgramError:
        raise
    except Exception as error:  # the network is anyone's code
        if thorough:
            _check_that_it_runs(model, positional, named)
            with suppress(Exception), quiet("torch.fx", "torch.export"):
                program = torch.export.export(model, tuple(positional), dict(named), strict=False)
                return attempt(program.module())
        raise RuntimeProgramError(
            f"{type(model).__name__} cannot be captured: {_obstacle(error)}; change its forward"
        ) from error


def _tensors(example: object) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    """Split an example into positional and named tensors, and check their types."""
    positional, named = split_example(example, RuntimeProgramError)
    for name, tensor in [*((f"input {i}", t) for i, t in enumerate(positional)), *named.items()]:
        if not isinstance(tensor, Tensor) or tensor.layout != torch.strided:
            raise RuntimeProgramError(
                f"{name} of the example is not a dense tensor; give one of the shape to compile for"
            )
        _check_tensor(f"{name} of the example", tensor, "it")
    return positional, named


def _check_state(model: nn.Module) -> None:
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        _check_tensor(name, tensor, "the network")


def _check_tensor(name: str, tensor: Tensor, what: str) -> None:
    if tensor.device.type == "meta":
        raise RuntimeProgramError(f"{name} is on the meta device and has no values; load its weights")
    if tensor.device.type != "cpu":
        raise RuntimeProgramError(
            f"{name} is on {tensor.device.type}, but the runtime is for the CPU; move {what} with .cpu()"
        )
    floating = tensor.is_floating_point() or tensor.is_complex()
    if floating and tensor.dtype != torch.float32:
        kind = str(tensor.dtype).removeprefix("torch.")
        raise RuntimeProgramError(
            f"{name} is {kind}, but the runtime computes in float32; convert {what} with .float()"
        )


def _parameters(model: nn.Module, count: int) -> tuple[str, ...]:
    """Return the names of forward's arguments that can be given without one, and at least `count` of them."""
    if isinstance(model, OnnxNetwork):
        return tuple(model.inputs)
    kinds = inspect.Parameter
    names: list[str] = []
    rest = "args"
    for parameter in inspect.signature(model.forward).parameters.values():
        if parameter.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD):
            names.append(parameter.name)
        elif parameter.kind == kinds.VAR_POSITIONAL:
            rest = parameter.name
    names += [f"{rest}_{i}" for i in range(count - len(names))]
    return tuple(names)


def _check_that_it_runs(module: nn.Module, positional: Sequence[Tensor], named: Mapping[str, Tensor]) -> None:
    try:
        with torch.no_grad():
            module(*positional, **named)
    except Exception as error:  # the network is anyone's code
        shapes = ", ".join(
            "×".join(map(str, t.shape)) or "one number" for t in [*positional, *named.values()]
        )
        raise RuntimeProgramError(
            f"{type(module).__name__} does not run on the example of shape {shapes or 'nothing'} "
            f"({first_sentence(error)}); give inputs of the shape and type that it was trained with"
        ) from error


def _obstacle(error: Exception) -> str:
    """Say what keeps a network from being captured, with the line of its code where that is known."""
    frames = traceback.extract_tb(error.__traceback__)
    user_frames = [
        frame
        for frame in frames
        if "/torch/" not in frame.filename and "/gpmt/runtime/" not in frame.filename
    ]
    where = f" ({user_frames[-1].filename}, line {user_frames[-1].lineno})" if user_frames else ""
    if isinstance(error, Aliased):
        return "it writes into tensors that share memory with others, in a way that cannot be followed"
    if isinstance(error, DataDependentOutputException | DynamicOutputShapeException):
        return f"its path or shapes depend on the values of a tensor{where}"
    return first_sentence(error) + where
