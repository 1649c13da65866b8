"""Pruning networks at 90 %, beside what PyTorch offers: time, passes over the weights and extra memory.

    python benchmarks/selection.py                 # tables, and a JSON file with --json FILE

Networks:
  resnet50           torchvision's, 25,502,912 weights in float32
  resnet50-bfloat16  the same in bfloat16, whose many equal magnitudes are ties
  blocks             one stack of 20,000 blocks of 2,000 weights, as of a mixture of experts

Methods (all find the 10 % largest weights and zero the others):
  gpmt               gpmt.prune_: exact count, floors of 0.05 % (of the blocks: 20 weights each)
  gpmt, no floors    the same with min_kept=0
  prune              torch.nn.utils.prune.global_unstructured (its hooks stay on; taking them off is not timed)
  kthvalue           torch.kthvalue of the concatenated magnitudes, then a comparison and a product a tensor
  sum, copy          no pruning, for comparison: a plain sum of all weights, and a copy of them, tensor by tensor

Times are medians over alternating repetitions in one process; a ratio compares times of the same run. `read` and
`written` are the bytes that operations read and write, over those of the weights: 1.0 is one pass. Of PyTorch the
tensors that each operator takes and returns are counted, views left out; what an operator does inside is not. Of gpmt
the keys that each loop takes are counted as well. Peak extra memory is the growth of the resident set's high-water
mark (Linux, glibc) while the method runs, in a process of its own for each method; for gpmt it includes the packed
masks, one bit a weight.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from torch import Tensor, nn
from torch.nn.utils import prune

import gpmt
from gpmt.core.keys import key_loops
from gpmt.system import cpu_name
from gpmt.torch_private import TorchDispatchMode, tree_leaves

SPARSITY = 0.9
BLOCKS, BLOCK_SHAPE = 20_000, (40, 50)


class Stack(nn.Module):
    """Blocks in one tensor."""

    def __init__(self, blocks: int = BLOCKS) -> None:
        super().__init__()
        scales = torch.rand(blocks, 1, 1) + 0.5
        self.weight = nn.Parameter(torch.randn(blocks, *BLOCK_SHAPE) * scales)


def resnet50() -> nn.Module:
    torch.manual_seed(0)
    model: nn.Module = torchvision.models.resnet50()
    return model


def stack() -> nn.Module:
    torch.manual_seed(0)
    return Stack()


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet50": resnet50,
    "resnet50-bfloat16": lambda: resnet50().bfloat16(),
    "blocks": stack,
}


def prunable(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear | Stack)]


def weights(model: nn.Module) -> list[Tensor]:
    return [layer.get_parameter("weight").detach() for layer in prunable(model)]


def with_gpmt(model: nn.Module, *, floors: bool = True) -> None:
    options: dict[str, Any] = {"min_kept": "0.05%" if floors else 0}
    if isinstance(model, Stack):
        options = {
            "min_kept": 20 if floors else 0,
            "scope": "weight",
            "blocks": {"weight": len(model.weight)},
        }
    gpmt.prune_(model, sparsity=SPARSITY, **options)


def with_gpmt_without_floors(model: nn.Module) -> None:
    with_gpmt(model, floors=False)


def with_prune(model: nn.Module) -> None:
    layers = [(layer, "weight") for layer in prunable(model)]
    prune.global_unstructured(layers, pruning_method=prune.L1Unstructured, amount=SPARSITY)


def with_kthvalue(model: nn.Module) -> None:
    with torch.no_grad():
        pool = torch.cat([weight.abs().flatten() for weight in weights(model)])
        threshold = pool.kthvalue(int(SPARSITY * len(pool))).values
        for weight in weights(model):
            weight.mul_(weight.abs() > threshold)


def with_sum(model: nn.Module) -> None:
    for weight in weights(model):
        weight.sum()


class Copy:
    """Copies the weights to memory that is there already."""

    def __init__(self) -> None:
        self._copies: list[Tensor] = []

    def __call__(self, model: nn.Module) -> None:
        found = weights(model)
        if [(copy.shape, copy.dtype) for copy in self._copies] != [(one.shape, one.dtype) for one in found]:
            self._copies = [torch.empty_like(weight) for weight in found]
        for copy, weight in zip(self._copies, found, strict=True):
            copy.copy_(weight)


METHODS: dict[str, Callable[[nn.Module], None]] = {
    "gpmt": with_gpmt,
    "gpmt, no floors": with_gpmt_without_floors,
    "prune": with_prune,
    "kthvalue": with_kthvalue,
    "sum": with_sum,
    "copy": Copy(),
}


class Traffic(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes that operators and the loops over keys read and write."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.read = self.written = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        name = str(func)
        if "empty" in name:
            return result
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        made = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        places = {tensor.untyped_storage().data_ptr() for tensor in given}
        changed = func._schema.is_mutable
        if not changed and any(tensor.untyped_storage().data_ptr() in places for tensor in made):
            return result  # a view
        reads = given[1:] if "copy_" in name else given
        self.read += sum(tensor.numel() * tensor.element_size() for tensor in reads)
        self.written += sum(tensor.numel() * tensor.element_size() for tensor in made)
        return result

    @contextmanager
    def of_loops(self) -> Iterator[None]:
        """Count those of the loops over keys too."""
        loops = {name: getattr(key_loops, name) for name in ("scan", "sample", "find_ranks", "pack")}

        def counting(name: str) -> Callable[..., Any]:
            def run(addresses: Any, sizes: Any, *arguments: Any) -> Any:
                element = next(one for one in arguments if isinstance(one, np.integer))
                size = int(sizes.sum()) * element.itemsize
                if name == "sample":
                    size //= arguments[3]
                self.read += size
                if name == "pack":
                    self.written += size * bool(arguments[5]) + int(((sizes + 7) // 8).sum())
                return loops[name](addresses, sizes, *arguments)

            return run

        for name in loops:
            setattr(key_loops, name, counting(name))
        try:
            yield
        finally:
            for name, loop in loops.items():
                setattr(key_loops, name, loop)


def reset(model: nn.Module, dense: dict[str, Tensor]) -> None:
    for layer in prunable(model):
        if prune.is_pruned(layer) and "weight" not in dict(layer.named_parameters(recurse=False)):
            prune.remove(layer, "weight")  # type: ignore[no-untyped-call]
    model.load_state_dict(dense)


def zeros(model: nn.Module) -> int:
    return sum(int(torch.eq(torch.as_tensor(layer.weight), 0).sum()) for layer in prunable(model))


def measure_times(
    network: str, repetitions: int
) -> tuple[dict[str, list[float]], dict[str, tuple[float, float]]]:
    """Return the times of each method, and what it reads and writes, over the bytes of the weights."""
    times: dict[str, list[float]] = {name: [] for name in METHODS}
    traffic = {}
    model = NETWORKS[network]()
    dense = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    size = sum(weight.numel() * weight.element_size() for weight in weights(model))
    for repetition in range(repetitions + 2):
        for name, method in METHODS.items():
            reset(model, dense)
            if repetition == 1:
                with Traffic() as counted, counted.of_loops():
                    method(model)
                traffic[name] = (counted.read / size, counted.written / size)
                continue
            start = time.perf_counter()
            method(model)
            if repetition:  # the first round compiles and warms the caches
                times[name].append(time.perf_counter() - start)
    return times, traffic


def measure_memory(network: str, name: str) -> tuple[int, int]:
    """Return the peak growth of the resident set in bytes, and the zeros found; run in a process of its own."""
    model = NETWORKS[network]()
    small = Stack(10) if network == "blocks" else nn.Sequential(nn.Linear(600, 600), nn.Linear(600, 600))
    METHODS[name](small.to(weights(model)[0].dtype))  # import and compile
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what is free goes back, so that using it again shows
    Path("/proc/self/clear_refs").write_text("5")  # start the peak anew
    before = peak_memory()
    METHODS[name](model)
    return peak_memory() - before, zeros(model)


def peak_memory() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) << 10


def measure(network: str, repetitions: int) -> list[dict[str, Any]]:
    """Return one row for each method."""
    times, traffic = measure_times(network, repetitions)
    rows = []
    for name in METHODS:
        command = [sys.executable, __file__, "--memory-of", network, name]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        memory, pruned = json.loads(output.splitlines()[-1])
        ratios = [other / own for other, own in zip(times[name], times["gpmt"], strict=True)]
        rows.append(
            {
                "network": network,
                "method": name,
                "median_s": statistics.median(times[name]),
                "fastest_s": min(times[name]),
                "ratio_to_gpmt": statistics.median(ratios),
                "read": traffic[name][0],
                "written": traffic[name][1],
                "peak_extra_mib": memory / 2**20,
                "pruned": pruned,
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", choices=NETWORKS, action="append", help="all of them by default")
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--memory-of", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", gpmt.GpmtWarning)
    if arguments.memory_of:
        print(json.dumps(measure_memory(*arguments.memory_of)))
        return

    machine = f"{cpu_name()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    print(f"sparsity {SPARSITY}; {machine}; {arguments.repetitions} repetitions")
    rows = []
    for network in arguments.network or NETWORKS:
        numel = sum(weight.numel() for weight in weights(NETWORKS[network]()))
        print(f"\n{network}, {numel:,} weights")
        print(
            f"{'method':16} {'median ms':>10} {'fastest ms':>11} {'times gpmt':>11} {'read':>6} {'written':>8} "
            f"{'extra MiB':>10} {'pruned':>12}"
        )
        for row in measure(network, arguments.repetitions):
            rows.append(row)
            print(
                f"{row['method']:16} {row['median_s'] * 1e3:10.1f} {row['fastest_s'] * 1e3:11.1f} "
                f"{row['ratio_to_gpmt']:11.1f} {row['read']:6.1f} {row['written']:8.1f} "
                f"{row['peak_extra_mib']:10.1f} {row['pruned']:12,}"
            )
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
