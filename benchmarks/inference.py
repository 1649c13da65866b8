"""Pruned networks on this machine's processor: gpmt beside dense engines and DeepSparse, in one run.

    python benchmarks/inference.py                                    # ResNet-50, batch 1 and 16, 80 to 98 %
    python benchmarks/inference.py --networks all --json FILE         # all networks, and the figures in a file
    python benchmarks/inference.py --engines eager onnxruntime gpmt --batches 1 --sparsities 0.9 --seconds 5
    python benchmarks/inference.py --networks resnet50 --checkpoint FILE --sparsities 0    # weights as they are
    python benchmarks/inference.py --densities counts.json            # as `gpmt inspect --json` printed it

Engines, all with the same number of threads; one that is not installed is left out, and the table says so:
  eager             PyTorch, channels_last
  compile           torch.compile (inductor, weights frozen); needs a C++ compiler
  onnxruntime       ONNX Runtime, float32
  openvino          OpenVINO, float32
  onnxruntime-int8  ONNX Runtime on the dense network in int8: weights with a scale a channel, activations uint8
  openvino-int8     OpenVINO on that same file
  deepsparse        DeepSparse in a Python of its own, which --deepsparse-python names: 1.8.0 in Python 3.11,
                    with protobuf<4.25 and setuptools<70
  gpmt              gpmt.compile

Dense float32 engines get the pruned network too, for which zeros are numbers like others. So with several sparsities
they take part once, with the first of them, while gpmt and DeepSparse take part once for each; --apart measures each
sparsity on its own, with all engines. The int8 engines are what a dense network can do instead of being pruned.

Times are means over calls that take 20 ms together, after one that is not timed; in each round every engine has one
such turn, in an order that changes, and the medians and quartiles over rounds are shown. A ratio compares times of
the same round, and its median is shown. Before each turn there is a pause of 5 ms, as threads of engines spin for a
while after a call, in case another follows, and would take the processor from the next engine. Rounds in which other
processes kept a tenth of a core busy are left out.

Weights are random unless --checkpoint names a file; batch norms then have random scales and shifts, and the
statistics of the pruned network, so that signals keep their scale. For "uniform", each prunable tensor loses the same
share, its smallest weights, but depthwise convolutions and tables of tokens stay dense, or few channels would live.
For "global", tensors
lose what lies below one threshold for all: with random weights that follows their initialisation (the larger a layer,
the smaller its weights), not what training makes of it, so give a --checkpoint, or --densities of a trained network.

The difference is the largest of any output from that of PyTorch eager on the same weights, as a share of the largest
output; where a float32 engine exceeds 1e-4, the exit status is 1. Compile times are of gpmt.compile in a new process,
first with an empty cache, then with what that left, importing included where it happens within.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import engines
import gpmt
import networks
import table
import turns
from gpmt.system import cpu_name
from networks import NETWORKS, Pruning
from table import Case, Contestant, show, summarise

PACKAGES = ("gpmt", "llvmlite", "torch", "torchvision", "timm", "onnxruntime", "openvino")
INSTRUCTIONS = (
    "avx2",
    "fma",
    "avx512f",
    "avx512_vnni",
    "avx_vnni",
    "avx512_bf16",
    "amx_int8",
    "asimd",
    "sve",
)


def progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# Preparing


def prepare(case: Case, dense: nn.Module, arguments: argparse.Namespace, folder: Path) -> None:
    """Prepare all engines of a case, each for the sparsities that matter to it."""
    images = example(case.network, case.batch)
    usual = min(
        case.prunings, key=lambda pruning: abs(pruning.sparsity - 0.9)
    )  # compile times are of this alone
    for pruning in case.prunings:
        pruned = copy.deepcopy(dense)
        networks.prune(pruned, pruning)
        case.kept[pruning.label] = networks.kept_share(pruned)
        settled = dense
        if arguments.checkpoint is None:
            settled = copy.deepcopy(dense)
            for model in (settled, pruned):
                networks.settle(model, example(case.network, 8))
        if not networks.responds(pruned, example(case.network, 8)):
            case.dead.append(pruning.label)
        here = folder / case.network / pruning.label.replace("/", "_")
        here.mkdir(parents=True, exist_ok=True)
        task = engines.Task(pruned, settled, images, arguments.threads, here, arguments.deepsparse_python)
        for name in arguments.engines:
            if pruning is case.prunings[0] or engines.KINDS[name].sparse:
                prepare_one(case, name, task, pruning)
        ready = any(contestant.kind == "gpmt" for contestant in case.contestants)
        if arguments.compile_times and ready and pruning is usual:
            case.compile_times = {"sparsity": pruning.label} | compile_times(case.network, task)


def prepare_one(case: Case, name: str, task: engines.Task, pruning: Pruning) -> None:
    kind = engines.KINDS[name]
    if name in case.unavailable:
        return
    progress(f"{case.title}: preparing {kind.title}, {pruning.label}")
    start = time.perf_counter()
    try:
        engine = kind.prepare(task)
        prepared = time.perf_counter() - start
        with torch.inference_mode():
            expected = (task.pruned if kind.exact else task.dense)(task.images)
        scale = float(expected.abs().max()) or 1.0
        difference = float((engine.output() - expected).abs().max()) / scale
    except Exception as error:  # what an engine raises is not limited
        text = str(error).strip() or type(error).__name__
        case.unavailable[name] = text.splitlines()[0]
        return
    label = pruning.label if kind.sparse else None
    case.contestants.append(Contestant(name, label, engine, difference, prepared))


def example(name: str, batch: int) -> Tensor:
    return NETWORKS[name].example(batch)


def compile_times(name: str, task: engines.Task) -> dict[str, Any]:
    """Return the seconds of gpmt.compile in new processes, with an empty cache and with the same one again."""
    state = task.folder / "state.pt"
    torch.save(task.pruned.state_dict(), state)
    command = [sys.executable, __file__, "--compile-once", str(state), "--networks", name]
    command += ["--batches", str(len(task.images)), "--threads", str(task.threads)]
    seconds = {}
    with tempfile.TemporaryDirectory() as cache:
        for which in ("first", "cached"):
            progress(f"compiling in a new process, {which}")
            environment = os.environ | {"GPMT_CACHE": cache}
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
            seconds[which] = float(json.loads(done.stdout.splitlines()[-1]))
    return seconds


def compile_once(state: Path, name: str, batch: int, threads: int) -> float:
    model = networks.build(NETWORKS[name], None)
    model.load_state_dict(torch.load(state, weights_only=True))
    images = example(name, batch)
    start = time.perf_counter()
    gpmt.compile(model, images, threads=threads)
    return time.perf_counter() - start


# Measuring


def measure(case: Case, seconds: float) -> None:
    progress(f"{case.title}: measuring {len(case.contestants)} contestants")
    running = [contestant.engine for contestant in case.contestants]
    workers = [engine.worker for engine in running if engine.worker is not None]
    rounds = turns.measure([engine.turn for engine in running], seconds, workers)
    for contestant, times in zip(case.contestants, rounds.times, strict=True):
        contestant.times = times
    case.left_out, case.others = rounds.left_out, rounds.others


def machine(threads: int) -> dict[str, Any]:
    flags = engines.cpu_flags().split()
    installed = {distribution.name.lower() for distribution in distributions()}
    packages = {name: version(name) for name in PACKAGES if name in installed}
    return {
        "cpu": cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "instructions": [name for name in INSTRUCTIONS if name in flags],
        "system": f"{platform.system()} {platform.machine()}",
        "threads": threads,
        "versions": {"python": platform.python_version(), **packages},
    }


# Command line


def share(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a sparsity; give numbers such as 0.9")
    return value


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is too few; give 1 or more")
    return value


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", choices=[*NETWORKS, "all"], default=["resnet50"])
    parser.add_argument("--batches", nargs="+", type=positive, default=[1, 16])
    parser.add_argument(
        "--sparsities", nargs="+", type=share, default=[0.8, 0.9, 0.95, 0.98], help="0 prunes nothing"
    )
    parser.add_argument("--allocation", choices=("uniform", "global"), default="uniform")
    parser.add_argument("--exclude", nargs="+", default=[], help="patterns of tensors to leave alone")
    parser.add_argument(
        "--densities",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="instead of sparsities, what `gpmt inspect FILE --json` printed of pruned networks: how many weights "
        "each tensor keeps",
    )
    parser.add_argument("--checkpoint", type=Path, help="weights of the network, any file that gpmt reads")
    parser.add_argument("--engines", nargs="+", choices=engines.KINDS, default=list(engines.KINDS))
    parser.add_argument("--deepsparse-python", type=Path, metavar="PYTHON", help="one that has DeepSparse")
    parser.add_argument("--threads", type=positive, default=torch.get_num_threads())
    parser.add_argument(
        "--seconds", type=float, default=20, help="to measure a case for, three rounds at least"
    )
    parser.add_argument("--apart", action="store_true", help="a table for each sparsity, with all engines")
    parser.add_argument("--compile-times", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--compile-once", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if "all" in arguments.networks:
        arguments.networks = list(NETWORKS)
    if arguments.checkpoint and len(arguments.networks) > 1:
        parser.error("--checkpoint has the weights of one network; name it alone with --networks")
    return arguments


def prunings(arguments: argparse.Namespace) -> list[Pruning]:
    if arguments.densities:
        return [Pruning(path.stem, kept=networks.read_counts(path)) for path in arguments.densities]
    return [
        Pruning(f"{sparsity * 100:g} %", sparsity, arguments.allocation, tuple(arguments.exclude))
        for sparsity in arguments.sparsities
    ]


def run(arguments: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Measure and show all cases, and return the figures."""
    figures = []
    wanted = prunings(arguments)
    allocation = "densities of files" if arguments.densities else arguments.allocation
    for name in arguments.networks:
        dense = networks.build(NETWORKS[name], arguments.checkpoint)
        for batch in arguments.batches:
            for group in [[pruning] for pruning in wanted] if arguments.apart else [wanted]:
                case = Case(name, batch, group)
                try:
                    prepare(case, dense, arguments, folder)
                    if case.contestants:
                        measure(case, arguments.seconds)
                finally:
                    for contestant in case.contestants:
                        contestant.engine.close()
                rows = summarise(case)
                show(case, rows, allocation)
                figures.append(
                    {
                        "network": name,
                        "batch": batch,
                        "allocation": allocation,
                        "kept": case.kept,
                        "dead": case.dead,
                        "unavailable": case.unavailable,
                        "compile_s": case.compile_times,
                        "rounds_left_out": case.left_out,
                        "others_cores": case.others,
                        "rows": rows,
                    }
                )
    return figures


def main() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    if arguments.compile_once:
        name, batch = arguments.networks[0], arguments.batches[0]
        print(json.dumps(compile_once(arguments.compile_once, name, batch, arguments.threads)))
        return

    here = machine(arguments.threads)
    versions = ", ".join(f"{name} {number}" for name, number in here["versions"].items())
    print(
        f"{here['cpu']}, {here['cores']} cores, {arguments.threads} threads; {' '.join(here['instructions'])}"
    )
    print(versions)
    with tempfile.TemporaryDirectory() as folder:
        try:
            figures = run(arguments, Path(folder))
        except gpmt.GpmtError as error:
            sys.exit(str(error))
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": here, "cases": figures}, indent=2) + "\n")
    wrong = [
        f"{row['title']} of {figure['network']}, batch {figure['batch']}"
        for figure in figures
        for row in figure["rows"]
        if row["wrong"]
    ]
    if wrong:
        sys.exit(f"outputs differ from PyTorch's by more than {table.TOLERANCE:g}: {'; '.join(wrong)}")


if __name__ == "__main__":
    main()
