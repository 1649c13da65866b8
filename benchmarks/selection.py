"""Planning and masking torchvision's ResNet-50 at 90 %, beside what PyTorch offers: time and extra memory.

    python benchmarks/selection.py                 # a table, and benchmarks/selection.json with --json FILE

Times are medians over alternating repetitions in one process; a ratio compares times of the same run. Peak extra
memory is the growth of the resident set's high-water mark (Linux, glibc) while the method runs, in a process of its
own for each method; for gpmt it includes the packed masks, 3 MiB.

Methods (all find the 10 % largest of 25,502,912 weights and zero the others):
  gpmt               gpmt.plan(...).masks().apply_(): exact count, floors of 0.05 %
  gpmt, no floors    the same with min_kept=0
  prune              torch.nn.utils.prune.global_unstructured (its hooks stay on; taking them off is not timed)
  kthvalue           torch.kthvalue of the concatenated magnitudes, then a comparison and a product a tensor
"""

from __future__ import annotations

import argparse
import ctypes
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torchvision
from torch import nn
from torch.nn.utils import prune

import gpmt
from gpmt.system import cpu_name

SPARSITY = 0.9


def resnet50() -> nn.Module:
    torch.manual_seed(0)
    model: nn.Module = torchvision.models.resnet50()
    return model


def prunable(model: nn.Module) -> list[nn.Conv2d | nn.Linear]:
    return [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]


def with_gpmt(model: nn.Module) -> None:
    gpmt.plan(model, sparsity=SPARSITY, min_kept="0.05%").masks().apply_(model)


def with_gpmt_without_floors(model: nn.Module) -> None:
    gpmt.plan(model, sparsity=SPARSITY).masks().apply_(model)


def with_prune(model: nn.Module) -> None:
    weights = [(layer, "weight") for layer in prunable(model)]
    prune.global_unstructured(weights, pruning_method=prune.L1Unstructured, amount=SPARSITY)


def with_kthvalue(model: nn.Module) -> None:
    with torch.no_grad():
        weights = [layer.weight for layer in prunable(model)]
        pool = torch.cat([weight.abs().flatten() for weight in weights])
        threshold = pool.kthvalue(int(SPARSITY * len(pool))).values
        for weight in weights:
            weight.mul_(weight.abs() > threshold)


METHODS: dict[str, Callable[[nn.Module], None]] = {
    "gpmt": with_gpmt,
    "gpmt, no floors": with_gpmt_without_floors,
    "prune": with_prune,
    "kthvalue": with_kthvalue,
}


def reset(model: nn.Module, dense: dict[str, torch.Tensor]) -> None:
    for layer in prunable(model):
        if prune.is_pruned(layer):
            prune.remove(layer, "weight")  # type: ignore[no-untyped-call]
    model.load_state_dict(dense)


def zeros(model: nn.Module) -> int:
    return sum(int((layer.weight == 0).sum()) for layer in prunable(model))


def measure_times(repetitions: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in METHODS}
    model = resnet50()
    dense = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for repetition in range(repetitions + 1):
        for name, method in METHODS.items():
            reset(model, dense)
            start = time.perf_counter()
            method(model)
            if repetition:  # the first round compiles and warms the caches
                times[name].append(time.perf_counter() - start)
    return times


def measure_memory(name: str) -> tuple[int, int]:
    """Return the peak growth of the resident set in bytes, and the zeros found; run in a process of its own."""
    model = resnet50()
    METHODS[name](nn.Sequential(nn.Linear(600, 600), nn.Linear(600, 600)))  # import and compile
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what is free goes back, so that using it again shows
    Path("/proc/self/clear_refs").write_text("5")  # start the peak anew
    before = peak_memory()
    METHODS[name](model)
    return peak_memory() - before, zeros(model)


def peak_memory() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) << 10


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--memory-of", choices=METHODS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory_of:
        print(json.dumps(measure_memory(arguments.memory_of)))
        return

    times = measure_times(arguments.repetitions)
    rows = []
    for name in METHODS:
        command = [sys.executable, __file__, "--memory-of", name]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        memory, pruned = json.loads(output.splitlines()[-1])
        ratios = [other / own for other, own in zip(times[name], times["gpmt"], strict=True)]
        rows.append(
            {
                "method": name,
                "median_s": statistics.median(times[name]),
                "fastest_s": min(times[name]),
                "ratio_to_gpmt": statistics.median(ratios),
                "peak_extra_mib": memory / 2**20,
                "pruned": pruned,
            }
        )
    machine = f"{cpu_name()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    print(
        f"ResNet-50, 25,502,912 weights, sparsity {SPARSITY}; {machine}; {arguments.repetitions} repetitions"
    )
    print(
        f"{'method':16} {'median ms':>10} {'fastest ms':>11} {'times gpmt':>11} {'extra MiB':>10} {'pruned':>12}"
    )
    for row in rows:
        print(
            f"{row['method']:16} {row['median_s'] * 1e3:10.1f} {row['fastest_s'] * 1e3:11.1f} "
            f"{row['ratio_to_gpmt']:11.1f} {row['peak_extra_mib']:10.1f} {row['pruned']:12,}"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
