"""`gpmt.compile`: compiles a network to a program for this machine's CPU, which is called like the network."""

from __future__ import annotations

import gc
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn, cast

import torch
from torch import Tensor, nn

from gpmt.errors import RuntimeProgramError
from gpmt.formats.sparse.writer import SparseSize
from gpmt.html_tables import html_table
from gpmt.model_tools import Example
from gpmt.runtime.codegen import processor
from gpmt.runtime.dynamic_batch import with_dynamic_batch
from gpmt.runtime.execution.executors import Executors
from gpmt.runtime.execution.input_checking import check_indices, check_inputs, table_rows
from gpmt.runtime.frontend.call_signature import CallSignature
from gpmt.runtime.frontend.capture import capture
from gpmt.runtime.ir.graph import Graph, copy_arrays
from gpmt.runtime.lowering.cost_model import COST_MODEL
from gpmt.runtime.lowering.steps import NativeStep, Step, TorchStep
from gpmt.runtime.machine_code.executable_memory import refusal
from gpmt.runtime.machine_code.straight_line import DIALECTS
from gpmt.runtime.onnx_frontend.network import OnnxNetwork
from gpmt.runtime.onnx_frontend.open import Shapes, onnx_example, open_onnx
from gpmt.runtime.passes.pipeline import optimize
from gpmt.runtime.store import read_program, save
from gpmt.runtime.threads.thread_pool import ThreadPool, default_threads

_HAS_THREADS = os.name == "posix"


def compile(
    model: nn.Module | str | os.PathLike[str],
    example: Example | Shapes | None = None,
    *,
    threads: int | None = None,
    tune: bool = True,
) -> Program:
    """Compile a network for inference on this machine's CPU; pruned weights cost nothing.

    Args:
        model: any network that PyTorch can run on the example, with float32 weights on the CPU. It is compiled for
            evaluation mode, and not changed. Its weights are copied: later changes do not affect the program. Or
            the path of an ONNX file, which the extra ``onnx`` reads.
        example: inputs of one call: a tensor, several in the order of `forward`, or a mapping by argument name; the
            first dimension is the batch. Only shapes, strides and dtypes matter. For an ONNX file shapes will do,
            and nothing where only the batch is open in it.
        threads: at least 1; by default `torch.get_num_threads()`, but at most one for each core of this process.
            On Windows 1, which is the default there.
        tune: whether to measure which kernels are fastest; the results are kept on disk. If false, a cost model
            chooses.

    Returns:
        A program that is called like the network. Operators without a kernel stay on PyTorch; `print(program)` lists
        them.

    Raises:
        RuntimeProgramError: the network does not run on the example, its control flow depends on values of its
            inputs, it is not float32 on the CPU, or there is not enough memory; an ONNX file has operators that are
            not supported, all of which are named, or shapes that it leaves open.
        CheckpointError: an ONNX file cannot be read.

    >>> import torch, gpmt
    >>> from torch import nn
    >>> network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()).eval()
    >>> _ = gpmt.prune_(network, sparsity=0.5)
    >>> images = torch.ones(1, 3, 8, 8)
    >>> fast = gpmt.compile(network, images, threads=1, tune=False)
    >>> torch.allclose(fast(images), network(images), atol=1e-5)
    True
    """
    if isinstance(model, str | os.PathLike):
        model = open_onnx(model)
    is_file = isinstance(model, OnnxNetwork)
    if isinstance(model, OnnxNetwork):
        example = onnx_example(model, example)
    elif example is None:
        raise RuntimeProgramError("there is no example; give inputs of the shape to compile for")
    with _without_garbage_collection():
        graph, signature = capture(model, cast(Example, example), thorough=not is_file)
        graph = with_dynamic_batch(optimize(graph), model, cast(Example, example))
    return build(signature, graph, threads=threads, tune=tune)


def load_program(path: str | os.PathLike[str], *, threads: int | None = None, tune: bool = True) -> Program:
    """Open a program that `Program.save` wrote, and compile its kernels for this machine's CPU.

    Args:
        path: the file, written on any kind of processor. It is checked, and runs nothing but PyTorch's own operators.
        threads: as for `gpmt.compile`.
        tune: as for `gpmt.compile`.

    Returns:
        The program.

    Raises:
        CheckpointError: the file is missing, damaged, of another kind, or inconsistent.
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
    signature, graph = read_program(path)
    try:
        return build(signature, graph, threads=threads, tune=tune)
    except (MemoryError, OverflowError) as error:
        raise RuntimeProgramError(f"{path} needs more memory than there is ({error})") from None


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Disable the garbage collector: with all of PyTorch's objects, each collection takes a quarter of a second."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def build(
    signature: CallSignature, graph: Graph, *, threads: int | None = None, tune: bool = True
) -> Program:
    """Compile an optimized graph.

    Args:
        signature: how calls and results map to the graph's values.
        graph: for the example's batch.
        threads: as for `compile`.
        tune: as for `compile`.

    Raises:
        RuntimeProgramError: `threads` is less than 1, or there is not enough memory.
    """
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
    executors = Executors(graph, ThreadPool.shared(threads or default_threads()), tune=tune)
    executors.prepare(executors.batch)
    return Program(signature, graph, executors)


@dataclass(frozen=True)
class LayerTime:
    """The time of one native step.

    Attributes:
        label: the operator.
        name: the name of its weight in the network; empty for a step without weights.
        kernel: the kernel and its parameters.
        seconds: the median of a run.
        dense_macs: multiply-adds of the dense layer.
        kept_macs: multiply-adds with weights that are not zero.
        weight_bytes: of constants, and of the code that is made of them.
        activation_bytes: of the buffers that it reads and writes, padding included.
        bound: what the kernel should spend most of its cycles on, by the cost model; empty where only one can be.
    """

    label: str
    name: str
    kernel: str
    seconds: float
    dense_macs: int
    kept_macs: int
    weight_bytes: int
    activation_bytes: int
    bound: str


class Program:
    """A compiled network, which is called like the network.

    A call returns new tensors, without gradients. Where no operator stays on PyTorch the batch is dynamic;
    all other dimensions, and the dtypes, are those of the example. Calls from several threads take turns.
    """

    def __init__(self, signature: CallSignature, graph: Graph, executors: Executors) -> None:
        self._signature = signature
        self._graph = graph
        self._executors = executors
        self._table_rows = table_rows(graph.operators)

    def __call__(self, *args: Tensor, **kwargs: Tensor) -> Any:
        """Return what the network returns for these inputs.

        Args:
            args, kwargs: tensors of the shapes and dtypes of the example, on the CPU, with any strides.

        Raises:
            RuntimeProgramError: an input has another shape, dtype or device than the example, or a step on PyTorch
                fails.
        """
        inputs, samples = self._checked(args, kwargs)
        inputs = {name: tensor.resolve_neg() for name, tensor in inputs.items()}
        return self._signature.rebuild(self._executors.run(inputs, self._graph.outputs, samples))

    @property
    def threads(self) -> int:
        """Threads that a call uses."""
        return self._executors.pool.threads

    @property
    def inputs(self) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
        """Shapes and dtypes of the example's inputs, by the names of the network's arguments."""
        values = [self._graph.values[name] for name in self._graph.inputs]
        return {name: (v.shape, v.dtype) for name, v in zip(self._signature.arguments, values, strict=True)}

    @property
    def fallbacks(self) -> list[tuple[str, str]]:
        """The operators that stay on PyTorch: (their names, the reason) of each step."""
        return [(s.label, s.reason) for s in self._steps if isinstance(s, TorchStep) and s.reason]

    def layers(self, *args: Tensor, **kwargs: Tensor) -> list[LayerTime]:
        """Return the time of every native step in a call, of one sample where the batch is dynamic.

        Args:
            *args: as for a call.
            **kwargs: as for a call.

        Raises:
            RuntimeProgramError: as for a call.
        """
        inputs, _ = self._checked(args, kwargs)
        engine = self._executors.engine
        if self._executors.batch is not None:
            inputs = {name: tensor[:1] for name, tensor in inputs.items()}
        times = engine.profile(inputs)
        steps = [step for step in engine.steps if isinstance(step, NativeStep)]
        return [
            LayerTime(
                step.label,
                step.macs.name,
                kernel.description,
                seconds,
                step.macs.dense,
                step.macs.kept,
                constants,
                sum(engine.planes[buffer].buffer_bytes for buffer in {*step.buffers.values()}),
                COST_MODEL.bound(work) if work else "",
            )
            for step, kernel, work, seconds, constants in zip(
                steps, engine.kernels, engine.works, times, engine.weights.sizes, strict=True
            )
        ]

    def save(self, path: str | os.PathLike[str]) -> SparseSize:
        """Write the program to a file that `gpmt.load_program` opens, also on another kind of processor.

        Args:
            path: usually ends in ``.program.safetensors``. It is a sparse file: pruned weights take almost no space.

        Returns:
            The size of the file, and of its parts.

        Raises:
            CheckpointError: the network returns, or calls on PyTorch, something that a file cannot hold, or the file
                cannot be written.
        """
        return save(self._signature, self._graph, path)

    def __repr__(self) -> str:
        natives = sum(isinstance(step, NativeStep) for step in self._steps)
        activations, weights = self._executors.memory
        lines = [
            f"Program: {natives} native steps, {self.threads} threads, {processor.host().kind} "
            f"({activations / 2**20:.1f} MiB of activations, {weights / 2**20:.1f} MiB of weights)"
        ]
        lines += [f"  on PyTorch: {label} ({why})" for label, why in self.fallbacks]
        if processor.host().kind in DIALECTS and (why := refusal()):
            lines.append(f"  no straight-line code: it cannot be run here ({why})")
        if not _HAS_THREADS:
            lines.append("  one thread: there are no others on Windows yet")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        engine = self._executors.engine
        steps = [step for step in engine.steps if isinstance(step, NativeStep)]
        rows = [
            [
                step.label,
                step.macs.name,
                kernel.description,
                f"{step.macs.kept / step.macs.dense:.1%}" if step.macs.dense else "",
            ]
            for step, kernel in zip(steps, engine.kernels, strict=True)
        ]
        title, *notes = repr(self).splitlines()
        return html_table(["operator", "weights", "kernel", "MACs left"], rows, title=title, notes=notes)

    def _checked(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[dict[str, Tensor], int]:
        """Return the inputs of a call by name, and how many samples they have."""
        inputs = dict(zip(self._graph.inputs, self._signature.flatten(args, kwargs), strict=True))
        dynamic = self._executors.batch is not None
        samples = check_inputs(inputs, self._graph.values, dynamic_batch=dynamic)
        check_indices(inputs, self._table_rows)
        return inputs, samples

    @property
    def _steps(self) -> list[Step]:
        return self._executors.steps

    def __reduce__(self) -> NoReturn:
        raise RuntimeProgramError(
            "a Program is code for this process and cannot be pickled; write it with program.save(path) and open it "
            "with gpmt.load_program(path)"
        )
