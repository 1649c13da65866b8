"""`gpmt.compile`: a network as a program for this machine's CPU, which is called like the network."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import Tensor, nn

from gpmt.errors import RuntimeProgramError
from gpmt.runtime import target
from gpmt.runtime.batches import batch_of, rebatched
from gpmt.runtime.capture import Captured, capture
from gpmt.runtime.engine import Engine
from gpmt.runtime.fuse import fuse
from gpmt.runtime.graph import Graph
from gpmt.runtime.lower import Native, OnTorch, lower
from gpmt.runtime.team import Team, default_threads
from gpmt.runtime.tune import Tuner

if TYPE_CHECKING:
    from gpmt.formats.sparse.writer import SparseSize

Example = Tensor | Sequence[Tensor] | Mapping[str, Tensor]


def compile(model: nn.Module, example: Example, *, threads: int | None = None, tune: bool = True) -> Program:
    """Compile a network for inference on this machine's CPU; pruned weights cost nothing.

    Args:
        model: any network that PyTorch can run on the example; used in evaluation mode, and left as it is. Its weights are
            copied: later changes do not reach the program.
        example: inputs of one call: a tensor, several in the order of `forward`, or a mapping by argument name. Only shapes
            and dtypes matter. The first dimension is the batch.
        threads: by default as many as PyTorch uses, `torch.get_num_threads()`, but no more than there are processors.
        tune: whether to measure which kernels are fastest; results are remembered on disk. Without, a model of the
            processor decides.

    Returns a program that is called as the network is. What the runtime has no kernels for stays on PyTorch:
    `print(program)` says what.

    Raises:
        RuntimeProgramError: the network does not run on the example, its path depends on numbers in its inputs, it is
            not float32 on the CPU, or there is not enough memory.

    >>> import torch, gpmt
    >>> from torch import nn
    >>> network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()).eval()
    >>> _ = gpmt.prune_(network, sparsity=0.5)
    >>> images = torch.ones(1, 3, 8, 8)
    >>> fast = gpmt.compile(network, images, threads=1, tune=False)
    >>> torch.allclose(fast(images), network(images), atol=1e-5)
    True
    """
    captured = capture(model, example)
    return build(captured, fuse(captured.graph), threads=threads, tune=tune)


def build(captured: Captured, graph: Graph, *, threads: int | None = None, tune: bool = True) -> Program:
    """Compile a fused graph; `captured` says how calls and results map to its values."""
    if threads is not None and threads < 1:
        raise RuntimeProgramError(f"threads is {threads}, but must be at least 1")
    host = target.host()
    if host.kind == "plain":
        warnings.warn(
            "this processor has neither AVX2 with FMA nor NEON: programs compiled for it are right, but several times "
            "slower than they could be, and may be slower than PyTorch",
            RuntimeWarning,
            stacklevel=3,
        )
    team = Team.shared(threads or default_threads())
    tuner = Tuner(team, measure=tune)
    batch = batch_of(graph)
    piece = graph if batch is None else rebatched(graph, 1)
    engine = _engine(piece, team, tuner)
    tuner.save()
    return Program(captured, graph, engine, None if batch is None else 1)


def _engine(graph: Graph, team: Team, tuner: Tuner) -> Engine:
    lowered = lower(graph, target.host(), team.threads)
    choices = []
    for step in lowered.steps:
        if isinstance(step, Native):
            layouts = {role: lowered.layouts[buffer] for role, buffer in step.places.items()}
            choices.append(tuner.choose(step.candidates(lowered.layouts), layouts, step.kept_macs))
    return Engine(lowered, choices, graph.constants, team)


@dataclass(frozen=True)
class LayerTime:
    """What one native step costs.

    Attributes:
        label: what it does; name: its weights in the network.
        kernel: how it is done.
        seconds: the median of a call.
        dense_macs, kept_macs: multiply-adds of the dense layer and those with weights that are not zero.
    """

    label: str
    name: str
    kernel: str
    seconds: float
    dense_macs: int
    kept_macs: int


class Program:
    """A compiled network: call it like the network that it was made from.

    A call returns new tensors, without gradients. Where no operator is left to PyTorch the size of the batch is free;
    everything else about the inputs is as in the example. Calls from several threads take turns.
    """

    def __init__(self, captured: Captured, graph: Graph, engine: Engine, piece: int | None) -> None:
        self._captured = captured
        self._graph = graph
        self._engine = engine
        self._piece = piece

    def __call__(self, *args: Tensor, **kwargs: Tensor) -> Any:
        """Return what the network returns for these inputs.

        Raises:
            RuntimeProgramError: an input has another shape, dtype or device than the example had.
        """
        given = self._captured.flatten(args, kwargs)
        samples = self._check(given)
        names = self._graph.inputs
        if self._piece is None or samples == self._piece:
            outputs = self._engine.run(dict(zip(names, given, strict=True)), self._graph.outputs)
            return self._captured.rebuild(outputs)
        parts = []
        for start in range(0, samples, self._piece):
            tensors = [_rows(tensor, start, self._piece) for tensor in given]
            parts.append(self._engine.run(dict(zip(names, tensors, strict=True)), self._graph.outputs))
        joined = [torch.cat(tensors)[:samples] for tensors in zip(*parts, strict=True)]
        return self._captured.rebuild(joined)

    @property
    def threads(self) -> int:
        """Threads that a call uses."""
        return self._engine.threads

    @property
    def fallbacks(self) -> list[tuple[str, str]]:
        """What stays on PyTorch: (operators, why)."""
        return [(s.label, s.reason) for s in self._engine.steps if isinstance(s, OnTorch) and s.reason]

    def layers(self, *args: Tensor, **kwargs: Tensor) -> list[LayerTime]:
        """Return the time of every native step in a call with these inputs (one piece of the batch, where it is free)."""
        given = self._captured.flatten(args, kwargs)
        self._check(given)
        if self._piece is not None:
            given = [_rows(tensor, 0, self._piece) for tensor in given]
        times = self._engine.profile(dict(zip(self._graph.inputs, given, strict=True)))
        steps = [step for step in self._engine.steps if isinstance(step, Native)]
        return [
            LayerTime(s.label, s.name, describe(c.spec), t, s.dense_macs, s.kept_macs)
            for s, c, t in zip(steps, self._engine.choices, times, strict=True)
        ]

    def save(self, path: str | os.PathLike[str]) -> SparseSize:
        """Write the program to a file that `gpmt.load_program` opens, also on another kind of processor.

        Args:
            path: by custom it ends in ``.program.safetensors``. It is a sparse file: pruned weights take next to nothing.

        Raises:
            CheckpointError: the network returns, or leaves to PyTorch, something that a file cannot hold, or the file
                cannot be written.
        """
        from gpmt.runtime.store import save  # which builds programs

        return save(self._captured, self._graph, path)

    def __repr__(self) -> str:
        natives = sum(isinstance(step, Native) for step in self._engine.steps)
        activations, weights = self._engine.memory
        lines = [
            f"Program: {natives} native steps, {self.threads} threads, {target.host().kind} "
            f"({activations / 2**20:.1f} MiB of activations, {weights / 2**20:.1f} MiB of weights)"
        ]
        lines += [f"  on PyTorch: {label} ({why})" for label, why in self.fallbacks]
        return "\n".join(lines)

    def __reduce__(self) -> NoReturn:
        raise RuntimeProgramError(
            "a Program is code for this process and cannot be pickled; write it with program.save(path) and open it "
            "with gpmt.load_program(path)"
        )

    def _check(self, given: Sequence[Tensor]) -> int:
        """Check the inputs; return how many samples they have."""
        samples = None
        for name, tensor in zip(self._graph.inputs, given, strict=True):
            wanted = self._graph.values[name]
            if not isinstance(tensor, Tensor):
                raise RuntimeProgramError(f"{name} is of type {type(tensor).__name__}, but must be a tensor")
            if tensor.device.type != "cpu":
                raise RuntimeProgramError(f"{name} is on {tensor.device}, but programs run on the CPU; give {name}.cpu()")
            if tensor.dtype != wanted.dtype:
                raise RuntimeProgramError(
                    f"{name} is of {tensor.dtype}, but the program was compiled for {wanted.dtype}; convert it"
                )
            fixed = 0 if self._piece is None else 1
            rows = tensor.shape[0] if tensor.ndim and fixed else None
            if tensor.shape[fixed:] != wanted.shape[fixed:] or tensor.ndim != len(wanted.shape):
                shape = list(wanted.shape)
                described = f"[batch, {', '.join(map(str, shape[1:]))}]" if fixed else str(shape)
                raise RuntimeProgramError(
                    f"{name} has the shape {list(tensor.shape)}, but the program was compiled for {described}; "
                    "compile another one for this shape"
                )
            if rows is not None and (rows == 0 or samples not in (None, rows)):
                raise RuntimeProgramError(
                    f"{name} has a batch of {rows}" + (f", but another input one of {samples}" if samples else "; give at least one sample")
                )
            samples = rows
        return samples or 0


def describe(spec: object) -> str:
    """Return a kernel's choices in a few words."""
    tiles = getattr(spec, "tiles", None)
    words = [f"{tiles.count} tiles of {tiles.size}"] if tiles else []
    shown = ("bunch", "blocks", "groups", "parts")
    words += [f"{name} {getattr(spec, name)}" for name in shown if getattr(spec, name, 1) != 1]
    return " ".join([type(spec).__name__, *words])


def _rows(tensor: Tensor, start: int, count: int) -> Tensor:
    """Return `count` samples from `start` on; zeros where there are no more."""
    part = tensor[start : start + count]
    if len(part) < count:
        part = torch.cat([part, part.new_zeros(count - len(part), *part.shape[1:])])
    return part
