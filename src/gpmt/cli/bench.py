"""``gpmt bench``: how fast a network is on this machine, in the CPU runtime and in other engines."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gpmt.cli.bench_engines import ENGINES, USUAL, checked, prepare, subject_of
from gpmt.cli.narration import working
from gpmt.cli.options import AsJson, InputShape, ModelName, Quiet, Verbose, check_exists, examples, print_json
from gpmt.errors import GpmtError
from gpmt.system import cpu_name

if TYPE_CHECKING:
    from rich.table import Table
    from torch import nn

    from gpmt.cli.engines import Inputs, Timing
    from gpmt.runtime.program import LayerTime, Program

EXAMPLES = examples(
    "gpmt bench runs/cifar10-resnet20",
    "gpmt bench pruned.pth --model torchvision:resnet50 --input 3x224x224 --batch 16",
    "gpmt bench resnet50.program.safetensors --layers --threads 1",
    "gpmt bench model.onnx --compare",
    "gpmt bench pruned.pth --model torchvision:resnet50 --input 3x224x224 --engines onnx --json",
)
_MOSTLY_ON_PYTORCH = 0.5


@dataclass
class _Result:
    """The measurements; `layers` and `peak` only where layers are measured."""

    program: Program
    threads: int
    batch: int
    compile_seconds: float
    timings: dict[str, Timing] = field(default_factory=dict)
    differences: dict[str, float] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    rounds: int = 0
    layers: list[LayerTime] = field(default_factory=list)
    on_torch: float = 0.0
    peak: float = 0.0


def bench(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="A saved program, an ONNX file, a checkpoint of any known tool, or a run's folder.",
        ),
    ],
    model: ModelName = None,
    input_shape: InputShape = None,
    batch: Annotated[
        int | None,
        typer.Option(
            min=1, help="Inputs in a call; by default 1, or as a program was saved.", show_default=False
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="By default as many as PyTorch takes.", show_default=False),
    ] = None,
    engines: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Compare with these: eager (PyTorch), compile (torch.compile), onnx (ONNX Runtime), openvino "
            "(OpenVINO); or none. By default eager and, where it is installed, onnx.",
            show_default=False,
        ),
    ] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Compare with all engines that are installed.")
    ] = False,
    layers: Annotated[bool, typer.Option("--layers", help="Show the time of each layer too.")] = False,
    seconds: Annotated[float, typer.Option(min=0, help="How long to measure.")] = 5.0,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Measure how fast a network is in the CPU runtime, beside PyTorch and ONNX Runtime, on this machine.

    The engines get the same weights and inputs, and take turns, so that other load on the machine affects all alike.
    A saved program does not hold a network that other engines could run, so it is measured alone. An ONNX file
    needs no --model: with one, it is a checkpoint like others, of which the weights are taken.
    """
    asked = checked(engines, every=compare)
    check_exists(path)

    import torch

    from gpmt.cli.engines import call_engine, measure
    from gpmt.runtime.threads.thread_pool import default_threads

    if threads is not None:
        torch.set_num_threads(threads)
    count = threads or default_threads()
    silent = quiet or as_json
    module, program, inputs, taken = _open(path, model, input_shape, batch, count, quiet=silent)
    if module is None and (asked or compare):
        option = "--compare" if compare else "--engines"
        raise GpmtError(
            f"{path} is a program, which no other engine runs; leave out {option}, or give the weights"
        )
    result = _Result(program, count, _batch_size(inputs), taken)
    calls: dict[str, Any] = {"gpmt": lambda: call_engine(program, inputs)}
    if module is not None:
        with working("preparing the other engines", quiet=silent):
            calls |= _other_engines(module, inputs, result, asked, every=compare)
    with working(f"measuring {', '.join(calls)}", quiet=silent):
        result.timings, result.rounds = measure(calls, seconds)
    if layers or program.fallbacks:
        with working("measuring layers", quiet=silent):
            _measure_layers(result, inputs, show=layers)
    if as_json:
        print_json({"file": str(path), **_document(result, inputs)})
    elif not quiet:
        _print(path, result, inputs)


def _open(
    path: Path, model: str | None, shape: str | None, batch: int | None, threads: int, *, quiet: bool
) -> tuple[nn.Module | None, Program, Inputs, float]:
    """Return the network (None for a saved program), its program, inputs, and the seconds of compiling."""
    import torch

    from gpmt.cli.engines import random_inputs
    from gpmt.runtime.program import compile, load_program
    from gpmt.runtime.store import holds_program

    if holds_program(path):
        if model is not None or shape is not None:
            raise GpmtError(
                f"{path} is a program, which holds its network and inputs; leave out --model and --input"
            )
        with working(f"compiling {path}", quiet=quiet):
            start = time.perf_counter()
            program = load_program(path, threads=threads)
            taken = time.perf_counter() - start
        example = {
            name: torch.zeros(size, dtype=dtype, device="cpu")
            for name, (size, dtype) in program.inputs.items()
        }
        return None, program, random_inputs(example, batch), taken

    from gpmt.cli.network import parse_shape, require_network
    from gpmt.formats.load import load
    from gpmt.runtime.onnx_frontend.open import is_onnx, onnx_example, open_onnx

    module: nn.Module
    with working(f"reading {path}", quiet=quiet):
        if model is None and is_onnx(path):
            module = network = open_onnx(path)
            sizes = None if shape is None else (batch or 1, *parse_shape(shape))
            given = random_inputs(onnx_example(network, sizes, batch=batch or 1), batch)
        else:
            found = require_network(load(path), model=model, input_shape=shape)
            module, given = found.module, random_inputs(found.example, batch)
    with working(f"compiling {path}", quiet=quiet):
        start = time.perf_counter()
        program = compile(module, given, threads=threads)
        taken = time.perf_counter() - start
    return module, program, given, taken


def _batch_size(inputs: Inputs) -> int:
    tensors = list(inputs.values()) if isinstance(inputs, Mapping) else list(inputs)
    return tensors[0].shape[0] if tensors and tensors[0].ndim else 1


def _other_engines(
    module: nn.Module, inputs: Inputs, result: _Result, asked: Sequence[str] | None, *, every: bool
) -> dict[str, Any]:
    """Return calls of the other engines; record how far all outputs are from PyTorch's."""
    from gpmt.cli.engines import call_engine, difference, eager_call

    names = asked if asked is not None else tuple(ENGINES) if every else USUAL
    with subject_of(module, inputs, result.threads) as subject:
        calls, result.left_out = prepare(subject, names, demanded=asked is not None)
    expected = (calls.get("eager") or eager_call(module, inputs))()
    result.differences["gpmt"] = difference(call_engine(result.program, inputs), expected)
    for name, call in calls.items():
        if name != "eager":
            result.differences[name] = difference(call(), expected)
    return calls


def _measure_layers(result: _Result, inputs: Inputs, *, show: bool) -> None:
    from gpmt.cli.engines import call_engine
    from gpmt.runtime.execution.peak import measure as measure_peak
    from gpmt.runtime.threads.thread_pool import ThreadPool

    program = result.program
    found: list[LayerTime] = call_engine(program.layers, inputs)
    native = sum(layer.seconds for layer in found)
    if program.fallbacks:
        result.on_torch = max(0.0, 1 - native / result.timings["gpmt"].seconds)
    if show:
        result.layers = found
        result.peak = measure_peak(ThreadPool.shared(result.threads))


def _document(result: _Result, inputs: Inputs) -> dict[str, Any]:
    from gpmt.runtime.codegen import processor

    tensors = inputs if isinstance(inputs, Mapping) else {str(i): t for i, t in enumerate(inputs)}
    document: dict[str, Any] = {
        "processor": cpu_name(),
        "vectors": processor.host().kind,
        "threads": result.threads,
        "batch": result.batch,
        "inputs": {name: list(tensor.shape) for name, tensor in tensors.items()},
        "compile_seconds": result.compile_seconds,
        "rounds": result.rounds,
        "engines": {
            name: {
                "seconds": timing.seconds,
                "times_gpmt": timing.ratio,
                "difference": result.differences.get(name),
            }
            for name, timing in result.timings.items()
        },
        "left_out": result.left_out,
        "on_pytorch": [{"operators": label, "reason": reason} for label, reason in result.program.fallbacks],
        "share_on_pytorch": result.on_torch,
    }
    if result.layers:
        document["peak_flops"] = result.peak
        document["layers"] = [vars(layer) for layer in result.layers]
    return document


def _print(path: Path, result: _Result, inputs: Inputs) -> None:
    from gpmt.runtime.codegen import processor
    from gpmt.terminal.tables import console, shape_text

    screen = console()
    tensors = list(inputs.values()) if isinstance(inputs, Mapping) else list(inputs)
    shapes = ", ".join(shape_text(tensor.shape) for tensor in tensors)
    threads = f"{result.threads} thread{'s' if result.threads > 1 else ''}"
    screen.print(f"{path}: {shapes}, float32")
    screen.print(
        f"{cpu_name()} ({processor.host().kind}), {threads}; compiled in {result.compile_seconds:.1f} s",
    )
    screen.print(_engine_table(result, screen.width))
    for name, reason in result.left_out.items():
        screen.print(f"{ENGINES[name].title} is left out: {reason}")
    if result.layers:
        screen.print(_layer_table(result, screen.width))
        screen.print(
            f"The peak of {threads} is {result.peak / 1e9:.1f} GFLOP/s. Useful are multiply-adds with weights that "
            "are not zero; dense is the rate at which a dense engine would have to work to be as fast. Each layer "
            "was run again and again by itself"
            + (", with one input" if result.batch > 1 else "")
            + ". MB are its "
            "weights, with the code that is made of them, and the activations that it reads and writes. What bounds "
            "it is what its kernel should spend most of its cycles on, by the cost model (docs/runtime.md).",
        )
    for label, reason in result.program.fallbacks:
        screen.print(f"on PyTorch: {label} ({reason})")
    if result.on_torch > _MOSTLY_ON_PYTORCH:
        screen.print(
            f"hint: {result.on_torch:.0%} of the time goes to these operators, which pruning does not make faster",
        )


def _engine_table(result: _Result, width: int) -> Table:
    from gpmt.terminal.fitting import Column, draw_table

    timings = result.timings
    errors = [result.differences.get(name) for name in timings]
    columns = [
        Column("ms a call", [f"{timing.seconds * 1e3:.3f}" for timing in timings.values()]),
        Column("inputs/s", [f"{result.batch / timing.seconds:,.1f}" for timing in timings.values()], spare=2),
        Column(
            "gpmt is faster by",
            ["" if name == "gpmt" else f"{timing.ratio:.2f}×" for name, timing in timings.items()],
        ),
        Column("difference", ["" if error is None else f"{error:.1e}" for error in errors], spare=1),
    ]
    names = Column(
        "engine", [ENGINES[name].title if name in ENGINES else name for name in timings], justify="left"
    )
    return draw_table(names, columns, width)


def _layer_table(result: _Result, width: int) -> Table:
    from gpmt.terminal.fitting import Column, draw_table

    layers, total = result.layers, sum(layer.seconds for layer in result.layers)
    kept, dense = (sum(getattr(layer, f"{kind}_macs") for layer in layers) for kind in ("kept", "dense"))

    def rates(shown: Callable[[float], str], macs: Sequence[int], all_macs: int) -> list[str]:
        """Format operations a second of every layer that has some, and of all."""
        each = [
            shown(2 * count / layer.seconds) if layer.dense_macs else ""
            for count, layer in zip(macs, layers, strict=True)
        ]
        return [*each, shown(2 * all_macs / total)]

    sizes = [layer.weight_bytes + layer.activation_bytes for layer in layers]
    kept_macs, dense_macs = [layer.kept_macs for layer in layers], [layer.dense_macs for layer in layers]
    columns = [
        Column("what", [*(layer.label for layer in layers), ""], justify="left", spare=2),
        Column("kernel", [*(layer.kernel for layer in layers), ""], justify="left", spare=3),
        Column("ms", [f"{seconds * 1e3:.3f}" for seconds in (*(layer.seconds for layer in layers), total)]),
        Column("share", [*(f"{layer.seconds / total:.1%}" for layer in layers), ""], spare=11),
        Column("useful\nGFLOP/s", rates(lambda rate: f"{rate / 1e9:.1f}", kept_macs, kept), spare=12),
        Column("of\npeak", rates(lambda rate: f"{rate / result.peak:.0%}", kept_macs, kept), spare=10),
        Column("dense\nGFLOP/s", rates(lambda rate: f"{rate / 1e9:.1f}", dense_macs, dense), spare=1),
        Column("MB", [f"{count / 1e6:.2f}" for count in (*sizes, sum(sizes))], spare=4),
        Column("bound by", [*(layer.bound for layer in layers), ""], justify="left", spare=5),
    ]
    names = Column(
        "layer", [*(layer.name.removesuffix(".weight") for layer in layers), "all"], justify="left"
    )
    return draw_table(names, columns, width, sections={len(layers) - 1})
