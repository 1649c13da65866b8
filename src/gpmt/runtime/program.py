"""`gpmt.compile`: a network as a program for this machine's CPU, which is called like the network."""

from __future__ import annotations

import gc
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from gpmt.errors import RuntimeProgramError
from gpmt.formats.sparse.writer import SparseSize
from gpmt.model_tools import Example
from gpmt.runtime.codegen import processor
from gpmt.runtime.dynamic_batch import with_dynamic_batch
from gpmt.runtime.execution.executors import Executors
from gpmt.runtime.frontend.capture import Captured, capture
from gpmt.runtime.ir.graph import Graph, copy_arrays
from gpmt.runtime.lowering.steps import Native, OnTorch, Step
from gpmt.runtime.passes.fuse import fuse
from gpmt.runtime.store import read_program, save
from gpmt.runtime.threads.thread_pool import ThreadPool, default_threads
from gpmt.torch_private import FakeTensor, is_traceable_wrapper_subclass


def compile(model: nn.Module, example: Example, *, threads: int | None = None, tune: bool = True) -> Program:
    """Compile a network for inference on this machine's CPU; pruned weights cost nothing.

    Args:
        model: any network that PyTorch can run on the example; used in evaluation mode, and left as it is. Its
            weights are copied: later changes do not reach the program.
        example: inputs of one call: a tensor, several in the order of `forward`, or a mapping by argument name. Only
            shapes, strides and dtypes matter. The first dimension is the batch.
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
    with _without_garbage_collection():
        captured = capture(model, example)
        graph = with_dynamic_batch(fuse(captured.graph), model, example)
    return build(captured, graph, threads=threads, tune=tune)


def load_program(path: str | os.PathLike[str], *, threads: int | None = None, tune: bool = True) -> Program:
    """Open a program that `Program.save` wrote, on any kind of processor: its kernels are made anew for this one.

    Args:
        path: the file. Nothing in it is run but PyTorch's own operators, and all of it is checked.
        threads, tune: as for `gpmt.compile`.

    Raises:
        CheckpointError: a file that is missing, damaged, of another kind, or that contradicts itself.
        RuntimeProgramError: there is not enough memory.

    >>> import tempfile, torch, gpmt
    >>> network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU()).eval()
    >>> images = torch.ones(1, 3, 8, 8)
    >>> fast = gpmt.compile(network, images, threads=1, tune=False)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = fast.save(f"{folder}/small.program.safetensors")
    ...     again = gpmt.load_program(f"{folder}/small.program.safetensors", threads=1, tune=False)
    >>> torch.equal(again(images), fast(images))
    True
    """
    captured, graph = read_program(path)
    try:
        return build(captured, graph, threads=threads, tune=tune)
    except (MemoryError, OverflowError) as error:
        raise RuntimeProgramError(f"{path} needs more memory than there is ({error})") from None


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Do not look for garbage: among all of PyTorch's objects that takes a quarter of a second each time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def build(captured: Captured, graph: Graph, *, threads: int | None = None, tune: bool = True) -> Program:
    """Compile a fused graph; `captured` says how calls and results map to its values."""
    if threads is not None and threads < 1:
        raise RuntimeProgramError(f"threads is {threads}, but must be at least 1")
    host = processor.host()
    if host.kind == "plain":
        warnings.warn(
            "this processor has neither AVX2 with FMA nor NEON: programs compiled for it are right, but several "
            "times slower than they could be, and may be slower than PyTorch",
            RuntimeWarning,
            stacklevel=3,
        )
    graph = copy_arrays(graph)
    machines = Executors(graph, ThreadPool.shared(threads or default_threads()), tune=tune)
    machines.prepare(machines.batch)
    return Program(captured, graph, machines)


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

    A call returns new tensors, without gradients. Where no operator is left to PyTorch the batch is dynamic;
    everything else about the inputs is as in the example. Calls from several threads take turns.
    """

    def __init__(self, captured: Captured, graph: Graph, machines: Executors) -> None:
        self._captured = captured
        self._graph = graph
        self._machines = machines

    def __call__(self, *args: Tensor, **kwargs: Tensor) -> Any:
        """Return what the network returns for these inputs.

        Raises:
            RuntimeProgramError: an input has another shape, dtype or device than the example had.
        """
        given = self._captured.flatten(args, kwargs)
        samples = self._check(given)
        given = [tensor.resolve_neg() for tensor in given]
        values = dict(zip(self._graph.inputs, given, strict=True))
        return self._captured.rebuild(self._machines.run(values, self._graph.outputs, samples))

    @property
    def threads(self) -> int:
        """Threads that a call uses."""
        return self._machines.team.threads

    @property
    def inputs(self) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
        """Shapes and dtypes of the example's inputs, by the names of the network's arguments."""
        values = [self._graph.values[name] for name in self._graph.inputs]
        return {name: (v.shape, v.dtype) for name, v in zip(self._captured.arguments, values, strict=True)}

    @property
    def fallbacks(self) -> list[tuple[str, str]]:
        """What stays on PyTorch: (operators, why)."""
        return [(s.label, s.reason) for s in self._steps if isinstance(s, OnTorch) and s.reason]

    def layers(self, *args: Tensor, **kwargs: Tensor) -> list[LayerTime]:
        """Return the time of every native step in a call, of one sample where the batch is dynamic."""
        given = self._captured.flatten(args, kwargs)
        self._check(given)
        engine = self._machines.engine
        if self._machines.batch is not None:
            given = [tensor[:1] for tensor in given]
        times = engine.profile(dict(zip(self._graph.inputs, given, strict=True)))
        steps = [step for step in engine.steps if isinstance(step, Native)]
        return [
            LayerTime(s.label, s.name, describe(c.spec), t, s.dense_macs, s.kept_macs)
            for s, c, t in zip(steps, engine.choices, times, strict=True)
        ]

    def save(self, path: str | os.PathLike[str]) -> SparseSize:
        """Write the program to a file that `gpmt.load_program` opens, also on another kind of processor.

        Args:
            path: by custom it ends in ``.program.safetensors``. It is a sparse file: pruned weights take hardly any
                room.

        Raises:
            CheckpointError: the network returns, or leaves to PyTorch, something that a file cannot hold, or the file
                cannot be written.
        """
        return save(self._captured, self._graph, path)

    def __repr__(self) -> str:
        natives = sum(isinstance(step, Native) for step in self._steps)
        activations, weights = self._machines.memory
        lines = [
            f"Program: {natives} native steps, {self.threads} threads, {processor.host().kind} "
            f"({activations / 2**20:.1f} MiB of activations, {weights / 2**20:.1f} MiB of weights)"
        ]
        lines += [f"  on PyTorch: {label} ({why})" for label, why in self.fallbacks]
        return "\n".join(lines)

    @property
    def _steps(self) -> list[Step]:
        return self._machines.steps

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
                raise RuntimeProgramError(
                    f"{name} is on {tensor.device}, but programs run on the CPU; give {name}.cpu()"
                )
            if tensor.layout != torch.strided:
                kind = str(tensor.layout).removeprefix("torch.")
                raise RuntimeProgramError(f"{name} is {kind}, but must be dense; give {name}.to_dense()")
            if not _has_memory(tensor):
                raise RuntimeProgramError(
                    f"{name} is a {type(tensor).__name__} without memory of its own; give a plain tensor"
                )
            if tensor.dtype != wanted.dtype:
                raise RuntimeProgramError(
                    f"{name} is of {tensor.dtype}, but the program was compiled for {wanted.dtype}; convert it"
                )
            fixed = 0 if self._machines.batch is None else 1
            rows = tensor.shape[0] if tensor.ndim and fixed else None
            if tensor.shape[fixed:] != wanted.shape[fixed:] or tensor.ndim != len(wanted.shape):
                shape = list(wanted.shape)
                described = f"[batch, {', '.join(map(str, shape[1:]))}]" if fixed else str(shape)
                raise RuntimeProgramError(
                    f"{name} has the shape {list(tensor.shape)}, but the program was compiled for {described}; "
                    "compile another one for this shape"
                )
            if rows == 0:
                raise RuntimeProgramError(f"{name} has a batch of 0; give at least one sample")
            if rows is not None and samples not in (None, rows):
                raise RuntimeProgramError(
                    f"{name} has a batch of {rows}, but another input one of {samples}; give batches of one size"
                )
            samples = rows
        return samples or 0


def _has_memory(tensor: Tensor) -> bool:
    """Whether kernels can read a tensor where it says it lies."""
    wrapper: bool = type(tensor) is not Tensor and is_traceable_wrapper_subclass(tensor)
    if wrapper or isinstance(tensor, FakeTensor):
        return False
    return tensor.data_ptr() != 0 or tensor.numel() == 0


def describe(spec: object) -> str:
    """Return a kernel's choices in a few words."""
    tiles = getattr(spec, "tiles", None)
    words = [f"{tiles.count} tiles of {tiles.size}"] if tiles else []
    shown = ("bunch", "blocks", "groups", "parts")
    words += [f"{name} {getattr(spec, name)}" for name in shown if getattr(spec, name, 1) != 1]
    return " ".join([type(spec).__name__.removesuffix("Kernel"), *words])
