"""A network exported by torch.export for batches of any size, from which files with graphs are written."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from gpmt.core.scope.scope import Scope, find_scope
from gpmt.errors import CheckpointError, first_sentence
from gpmt.model_tools import Example, evaluating, quiet, split_example, unwrap

_SEED = 0


@dataclass(frozen=True)
class ExportedNetwork:
    """A network in evaluation mode, and its graph from torch.export.

    Attributes:
        module: the network itself, without wrappers.
        scope: its prunable tensors.
        program: the graph, its first dimensions dynamic; it refers to the parameters of `module`.
        positional, named: the example's tensors, [batch, ...] each.
    """

    module: nn.Module
    scope: Scope
    program: ExportedProgram
    positional: tuple[Tensor, ...]
    named: dict[str, Tensor]

    def inputs(self, size: int) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        """Return inputs of `size` samples, those of the example in turn; every call returns the same.

        Floating tensors that are all zero, which would test next to nothing, become normal noise.
        """
        return (
            tuple(_batch(tensor, size) for tensor in self.positional),
            {name: _batch(tensor, size) for name, tensor in self.named.items()},
        )

    def outputs(self, size: int) -> Any:
        """Return the network's outputs for `inputs(size)`."""
        positional, named = self.inputs(size)
        with torch.no_grad():
            return self.module(*positional, **named)

    def unused(self) -> set[str]:
        """Return the names of the parameters that no output depends on, such as those of an auxiliary head."""
        graph = self.program.graph
        used, waiting = set(), [node for node in graph.nodes if node.op == "output"]
        while waiting:
            if (node := waiting.pop()) not in used:
                used.add(node)
                waiting.extend(node.all_input_nodes)
        placeholders = [node for node in graph.nodes if node.op == "placeholder"]
        inputs = zip(self.program.graph_signature.input_specs, placeholders, strict=True)
        return {spec.target for spec, node in inputs if spec.target and node not in used}


@contextmanager
def exported(module: nn.Module, example: Example) -> Iterator[ExportedNetwork]:
    """Put a network in evaluation mode and export it for any batch size; afterwards its modes are as before.

    Raises `CheckpointError` for an example that is not a batch or that the network does not take, and for a network
    that torch.export cannot export; `ScopeError` where it has nothing prunable.
    """
    module = unwrap(module)
    positional, named = _tensors(example)
    with evaluating(module):
        scope = find_scope(module)
        pair = [_batch(tensor, 2) for tensor in positional], {k: _batch(t, 2) for k, t in named.items()}
        _check_example(module, *pair)
        yield ExportedNetwork(module, scope, _export(module, *pair), positional, named)


def _tensors(example: object) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    """Split an example into positional and named tensors, and check that they are one batch."""
    positional, named = split_example(example, CheckpointError)
    together = {**{f"input {i}": tensor for i, tensor in enumerate(positional)}, **named}
    if not together:
        raise CheckpointError("the example is empty; give one batch of inputs")
    sizes = {}
    for name, tensor in together.items():
        if not isinstance(tensor, Tensor) or tensor.ndim == 0 or len(tensor) == 0:
            what = f"shape {list(tensor.shape)}" if isinstance(tensor, Tensor) else type(tensor).__name__
            raise CheckpointError(
                f"{name} of the example is {what}, but must be a tensor whose first dimension is the batch"
            )
        sizes[name] = len(tensor)
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{name}: {size}" for name, size in sizes.items())
        raise CheckpointError(
            f"the inputs of the example have batches of several sizes ({listed}); make them one"
        )
    return positional, named


def _batch(tensor: Tensor, size: int) -> Tensor:
    if tensor.is_floating_point() and not tensor.any():
        noise = torch.randn(
            size, *tensor.shape[1:], generator=torch.Generator().manual_seed(_SEED), device="cpu"
        )
        return noise.to(tensor)
    return tensor.detach()[torch.arange(size, device=tensor.device) % len(tensor)]


def _check_example(module: nn.Module, positional: Sequence[Tensor], named: Mapping[str, Tensor]) -> None:
    try:
        with torch.no_grad():
            module(*positional, **named)
    except Exception as error:  # a network can raise anything
        given = [*positional, *named.values()]
        shapes = ", ".join("×".join(map(str, tensor.shape[1:])) or "one number" for tensor in given)
        raise CheckpointError(
            f"{type(module).__name__} does not run on the example, a batch of {shapes} ({first_sentence(error)}); "
            "give inputs of the shape and type that it was trained with"
        ) from error


def _export(module: nn.Module, positional: Sequence[Tensor], named: Mapping[str, Tensor]) -> ExportedProgram:
    """Export for a dynamic batch; its example has two samples, as torch.export takes 0 and 1 for constants."""
    batch = Dim("batch")
    shapes: Any = {name: {0: batch} for name in named} or tuple({0: batch} for _ in positional)
    try:
        # Before it fails, torch.export prints the graph that it has so far.
        with quiet("torch.fx", "torch.export"), redirect_stderr(io.StringIO()), warnings.catch_warnings():
            # Of recurrent layers, whose weights are also in a list; the graph has them under their names.
            warnings.filterwarnings(
                "ignore", r"The tensor attributes? .*were assigned during export", UserWarning
            )
            return torch.export.export(
                module, tuple(positional), dict(named), dynamic_shapes=shapes, strict=False
            )
    except Exception as error:  # torch.export passes on what the network raises
        raise CheckpointError(
            f"{type(module).__name__} cannot be exported by torch.export: {_obstacle(error)}; change its forward, or "
            "export its weights without the graph (sparse, hub or csr)"
        ) from error


def _obstacle(error: Exception) -> str:
    """Return the reason why a network cannot be exported, with the line of its code where that is known."""
    text = str(error)
    if match := re.search(r"specialized it to be a constant \((\d+)\)", text):
        return f"its forward fixes the size of a batch, to {match[1]} in the example"
    # The last place that is not in PyTorch itself.
    places = [place for place in re.findall(r'File "(.+?)", line (\d+)', text) if "/torch/" not in place[0]]
    where = f" ({places[-1][0]}, line {places[-1][1]})" if places else ""
    if "data-dependent" in text:
        return f"its forward branches on the values of a tensor{where}"
    return first_sentence(error) + where
