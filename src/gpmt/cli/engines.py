"""A network in several engines, called in turns, and how far their outputs differ."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpmt.errors import CheckpointError, first_sentence

if TYPE_CHECKING:
    from torch import Tensor, nn

Inputs = Mapping[str, "Tensor"] | tuple["Tensor", ...]
Call = Callable[[], Any]

_TURN_SECONDS = 0.02  # of the calls of one turn together
_PAUSE_SECONDS = 0.005  # before a turn: threads of the previous engine may still spin
_MIN_ROUNDS = 3


@dataclass(frozen=True)
class Timing:
    """The time of one engine.

    Attributes:
        seconds: the median of a call.
        ratio: the median of how many times as long as the first engine it took, round by round.
    """

    seconds: float
    ratio: float


def measure(calls: Mapping[str, Call], seconds: float) -> tuple[dict[str, Timing], int]:
    """Let functions take turns for so many seconds, and return their times by name and the number of rounds."""
    for call in calls.values():
        call()
    rounds: list[dict[str, float]] = []
    names = list(calls)
    start = time.perf_counter()
    while len(rounds) < _MIN_ROUNDS or time.perf_counter() - start < seconds:
        shift = len(rounds) % len(names)  # so that no engine always follows the same one
        taken = {name: _turn(calls[name]) for name in names[shift:] + names[:shift]}
        rounds.append(taken)
    first = names[0]
    return {
        name: Timing(
            statistics.median(taken[name] for taken in rounds),
            statistics.median(taken[name] / taken[first] for taken in rounds),
        )
        for name in names
    }, len(rounds)


def _turn(call: Call) -> float:
    time.sleep(_PAUSE_SECONDS)
    call()
    count, start = 0, time.perf_counter()
    while True:
        call()
        count += 1
        elapsed = time.perf_counter() - start
        if elapsed >= _TURN_SECONDS:
            return elapsed / count


def eager_call(module: nn.Module, inputs: Inputs) -> Call:
    """Return a call of PyTorch without a compiler."""
    import torch

    module, given = _channels_last(module, inputs)

    def call() -> Any:
        with torch.inference_mode():
            return call_engine(module, given)

    return call


def inductor_call(module: nn.Module, inputs: Inputs) -> Call:
    """Return a call of torch.compile with constant weights. Raises `CheckpointError` where it does not run."""
    import warnings

    import torch

    torch.compiler.reset()
    module, given = _channels_last(module, inputs)
    # Freezing makes the weights constants, packed for the kernels once.
    compiled: Any = torch.compile(module, dynamic=False, options={"freezing": True})

    def call() -> Any:
        with torch.no_grad():
            return call_engine(compiled, given)

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            call()
    except Exception as error:  # of the compiler, or of C++
        raise CheckpointError(
            f"torch.compile does not run the network ({first_sentence(error)}); leave it out of --engines"
        ) from error
    return call


def _channels_last(module: nn.Module, inputs: Inputs) -> tuple[nn.Module, Inputs]:
    """Return a network for evaluation and inputs, both in the layout in which PyTorch is fastest with images."""
    import torch

    def converted(tensor: Tensor) -> Tensor:
        return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor

    module = module.eval().to(memory_format=torch.channels_last)
    if isinstance(inputs, Mapping):
        return module, {name: converted(tensor) for name, tensor in inputs.items()}
    return module, tuple(converted(tensor) for tensor in inputs)


def onnx_file_call(path: Path, inputs: Inputs, threads: int) -> Call:
    """Return a call of ONNX Runtime with a file. Raises `CheckpointError` where it does not run it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # errors are raised
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        names = [given.name for given in session.get_inputs()]
        tensors = [inputs[name] for name in names] if isinstance(inputs, Mapping) else inputs
        halves = {given.name for given in session.get_inputs() if given.type == "tensor(float16)"}
        feed = {
            name: (tensor.half() if name in halves else tensor).numpy()
            for name, tensor in zip(names, tensors, strict=True)
        }
        session.run(None, feed)
    except Exception as error:  # onnxruntime has a class for each of its codes
        raise CheckpointError(
            f"{path} does not run with ONNX Runtime ({first_sentence(error)}); leave it out of --engines"
        ) from error
    return lambda: session.run(None, feed)


def openvino_file_call(path: Path, inputs: Inputs, threads: int) -> Call:
    """Return a call of OpenVINO with an ONNX file. Raises `CheckpointError` where it does not run it."""
    import openvino

    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",  # else bfloat16 where the processor has it
    }
    try:
        core = openvino.Core()
        model = core.read_model(path)
        names = [given.get_any_name() for given in model.inputs]
        tensors = [inputs[name] for name in names] if isinstance(inputs, Mapping) else list(inputs)
        model.reshape({name: list(tensor.shape) for name, tensor in zip(names, tensors, strict=True)})
        request = core.compile_model(model, "CPU", settings).create_infer_request()
        feed = {name: tensor.numpy() for name, tensor in zip(names, tensors, strict=True)}

        def call() -> Any:
            found = request.infer(feed)
            return [found[output] for output in request.model_outputs]

        call()
    except Exception as error:  # openvino raises RuntimeError, and others for other stages
        raise CheckpointError(
            f"{path} does not run with OpenVINO ({first_sentence(error)}); leave it out of --engines"
        ) from error
    return call


def random_inputs(
    example: Tensor | Mapping[str, Tensor] | tuple[Tensor, ...], rows: int | None = None
) -> Inputs:
    """Return inputs of an example's shapes, with `rows` as the batch size where given; integers are zeros."""
    import torch

    generator = torch.Generator().manual_seed(0)

    def random_tensor(tensor: Tensor) -> Tensor:
        shape = (rows or tensor.shape[0], *tensor.shape[1:]) if tensor.ndim else ()
        if tensor.is_floating_point():
            return torch.randn(shape, generator=generator, dtype=tensor.dtype, device="cpu")
        return torch.zeros(shape, dtype=tensor.dtype, device="cpu")

    if isinstance(example, Mapping):
        return {name: random_tensor(tensor) for name, tensor in example.items()}
    return tuple(map(random_tensor, example if isinstance(example, tuple) else (example,)))


def difference(result: Any, expected: Any) -> float:
    """Return the largest difference of outputs, as a fraction of the largest output."""
    import numpy as np
    import torch

    from gpmt.torch_private import tree_leaves

    def arrays(tree: Any) -> list[Any]:
        tensors = (leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor | np.ndarray))
        return [np.asarray(tensor, np.float64) for tensor in tensors]

    largest = 0.0
    for one, other in zip(arrays(result), arrays(expected), strict=True):
        scale = float(np.abs(other).max(initial=0.0)) or 1.0
        largest = max(largest, float(np.abs(one - other).max(initial=0.0)) / scale)
    return largest


def call_engine(call: Callable[..., Any], inputs: Inputs) -> Any:
    """Call a network, or a function of the same arguments, with positional or named inputs."""
    return call(**inputs) if isinstance(inputs, Mapping) else call(*inputs)
