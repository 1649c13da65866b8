"""The engines that inference.py compares: each prepares a network for one batch size and runs it on one batch."""

from __future__ import annotations

import copy
import json
import logging
import subprocess
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import gpmt
from turns import turn

ONNX_OPSET = 13
"""What all engines read, old ones too."""


class Unavailable(Exception):
    """An engine cannot be had here; the text says why."""


@dataclass
class Task:
    """What an engine is asked to run.

    Attributes:
        pruned: the network in evaluation mode; dense fp32 engines get it too.
        dense: the same network before it was pruned, which int8 engines get.
        images: one batch, float32, contiguous; of encoders int64 tokens.
        threads: how many an engine may use.
        folder: where ONNX files of the pruned network are kept, and in the folder above those of the dense one, so
            that each is made once.
        deepsparse: a Python that has DeepSparse.
    """

    pruned: nn.Module
    dense: nn.Module
    images: Tensor
    threads: int
    folder: Path
    deepsparse: Path | None = None

    def onnx(self, which: str) -> Path:
        """Return an ONNX file of the network "pruned" or "dense", for batches of any size."""
        path = (self.folder if which == "pruned" else self.folder.parent) / f"{which}.onnx"
        if not path.exists():
            export(self.pruned if which == "pruned" else self.dense, path, self.images[:1])
        return path

    def int8(self) -> Path:
        """Return an ONNX file of the dense network with int8 weights, a scale a channel, and uint8 activations."""
        path = self.folder.parent / "int8.onnx"
        if not path.exists():
            quantise(self.onnx("dense"), path, self.images[:4].numpy())
        return path


@dataclass
class Engine:
    """A network that is ready to run on one batch.

    Attributes:
        call: runs it and returns the output in whatever form.
        version: of the package that runs it.
        turn: returns the mean seconds of a call, over calls that take so many seconds together.
        worker: the process that runs it, where that is another one.
        close: ends what does not end by itself.
    """

    call: Callable[[], Any]
    version: str
    turn: Callable[[float], float] = field(init=False)
    worker: int | None = None
    close: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        self.turn = partial(turn, self.call)

    def output(self) -> Tensor:
        """Return the logits [images, classes] as float32."""
        return torch.as_tensor(self.call()).float()


@dataclass(frozen=True)
class Kind:
    """An engine as tables know it: how it is prepared, and what it makes use of.

    Attributes:
        sparse: it makes use of zeros, so that each sparsity is a measurement of its own.
        exact: it computes in float32.
    """

    title: str
    prepare: Callable[[Task], Engine]
    sparse: bool = False
    exact: bool = True


# PyTorch


def eager(task: Task) -> Engine:
    model, images = channels_last(task)

    @torch.inference_mode()
    def call() -> Any:
        return model(images)

    return Engine(call, torch.__version__)


def inductor(task: Task) -> Engine:
    torch._dynamo.reset()  # each network is a compilation of its own, of which one function may have eight
    model, images = channels_last(task)
    # Freezing makes the weights constants, packed for the kernels once.
    compiled: Any = torch.compile(model, fullgraph=True, dynamic=False, options={"freezing": True})

    @torch.no_grad()
    def call() -> Any:
        return compiled(images)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        call()
    return Engine(call, torch.__version__)


def channels_last(task: Task) -> tuple[nn.Module, Tensor]:
    """Return a copy of the network and the images in the layout that PyTorch's convolutions are fastest in."""
    if task.images.ndim != 4:
        return task.pruned, task.images
    model: nn.Module = copy.deepcopy(task.pruned).to(memory_format=torch.channels_last)
    return model, task.images.contiguous(memory_format=torch.channels_last)


# ONNX Runtime and OpenVINO


def onnxruntime(task: Task) -> Engine:
    return onnxruntime_of(task.onnx("pruned"), task)


def onnxruntime_int8(task: Task) -> Engine:
    return onnxruntime_of(task.int8(), task)


def onnxruntime_of(path: Path, task: Task) -> Engine:
    ort = package("onnxruntime")
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = task.threads, 1
    options.add_free_dimension_override_by_name("batch", len(task.images))
    # Its threads spin within a call, as they do by default, but not on into the turn of the next engine.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.log_severity_level = 3
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feed = {"images": task.images.numpy()}
    return Engine(lambda: session.run(None, feed)[0], ort.__version__)


def openvino(task: Task) -> Engine:
    return openvino_of(task.onnx("pruned"), task)


def openvino_int8(task: Task) -> Engine:
    return openvino_of(task.int8(), task)


def openvino_of(path: Path, task: Task) -> Engine:
    ov = package("openvino")
    core = ov.Core()
    model = core.read_model(path)
    model.reshape(list(task.images.shape))
    settings = {
        "INFERENCE_NUM_THREADS": task.threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",  # else bfloat16 where the processor has it
    }
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    request.set_input_tensor(ov.Tensor(task.images.numpy(), shared_memory=True))

    def call() -> Any:
        request.infer()
        return request.get_output_tensor().data

    return Engine(call, package("openvino").__version__.partition("-")[0])


def package(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise Unavailable(f"{name} is not installed; pip install {name} brings it") from error


def export(model: nn.Module, path: Path, example: Tensor) -> None:
    """Write an ONNX file with batch norms folded, by the exporter of PyTorch that can write an old opset."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that there is a newer one
        torch.onnx.export(
            model,
            (example,),
            path,
            dynamo=False,
            opset_version=ONNX_OPSET,
            input_names=["images"],
            output_names=["logits"],
            dynamic_axes={"images": {0: "batch"}, "logits": {0: "batch"}},
        )


def quantise(source: Path, path: Path, images: np.ndarray[Any, Any]) -> None:
    """Write a network with int8 weights and uint8 activations, whose ranges come from a few images."""
    quantization = package("onnxruntime.quantization")
    preparation = package("onnxruntime.quantization.shape_inference")

    class Images:
        """One batch of inputs, as the quantiser reads them."""

        batches = iter([{"images": images}])

        def get_next(self) -> dict[str, Any] | None:
            return next(self.batches, None)

    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        logging.disable(logging.WARNING)
        try:
            preparation.quant_pre_process(source, prepared, skip_symbolic_shape=True)
            quantization.quantize_static(
                prepared,
                path,
                Images(),
                quant_format=quantization.QuantFormat.QDQ,
                per_channel=True,
                # Without these instructions, sums of two products saturate 16 bits unless a weight has 7.
                reduce_range="vnni" not in cpu_flags(),
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
            )
        finally:
            logging.disable(logging.NOTSET)


def cpu_flags() -> str:
    """Return the instruction sets as Linux lists them, else nothing."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith(("flags", "Features")):
                return line.partition(":")[2].strip()
    return ""


# DeepSparse and gpmt


def deepsparse(task: Task) -> Engine:
    if task.deepsparse is None:
        raise Unavailable("give --deepsparse-python, the Python of an environment that has it")
    images, output = task.folder / "images.npy", task.folder / "output.npy"
    np.save(images, task.images.numpy())
    worker = Path(__file__).with_name("deepsparse_worker.py")
    command = [*map(str, (task.deepsparse, worker, task.onnx("pruned"), images, task.threads))]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    requests, answers = process.stdin, process.stdout

    def answer() -> Any:
        line = answers.readline()
        if not line:
            raise Unavailable(f"its process ended with exit status {process.wait()}; see above for why")
        return json.loads(line)

    def ask(request: str) -> Any:
        requests.write(request + "\n")
        requests.flush()
        return answer()

    def close() -> None:
        requests.close()
        process.wait()
        answers.close()

    engine = Engine(lambda: np.load(ask(f"output {output}")), answer(), process.pid, close)
    engine.turn = lambda seconds: float(ask(f"turn {seconds}"))
    return engine


def sparse(task: Task) -> Engine:
    if not hasattr(gpmt, "compile"):
        raise Unavailable("this version of gpmt has no gpmt.compile")
    program = gpmt.compile(task.pruned, task.images, threads=task.threads)
    return Engine(lambda: program(task.images), gpmt_version())


def gpmt_version() -> str:
    from importlib.metadata import version

    return version("gpmt")


KINDS = {
    "eager": Kind("PyTorch eager, channels_last", eager),
    "compile": Kind("torch.compile, inductor", inductor),
    "onnxruntime": Kind("ONNX Runtime", onnxruntime),
    "openvino": Kind("OpenVINO", openvino),
    "onnxruntime-int8": Kind("ONNX Runtime int8, dense", onnxruntime_int8, exact=False),
    "openvino-int8": Kind("OpenVINO int8, dense", openvino_int8, exact=False),
    "deepsparse": Kind("DeepSparse", deepsparse, sparse=True),
    "gpmt": Kind("gpmt", sparse, sparse=True),
}
