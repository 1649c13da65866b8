"""The sparse file beside other ways to store a pruned network: bytes, speed of writing and reading, memory.

    python benchmarks/sparse_file.py                  # ResNet-50 at 80, 90, 95 and 98 %; --json FILE for the figures
    python benchmarks/sparse_file.py FILE...          # the sizes of real files: any checkpoint that gpmt reads

The network has torchvision's shapes, random weights and random batch-norm values, float32; every convolution and the
linear layer are pruned to the same sparsity. Random weights are as hard to compress as trained ones: their masks
have no structure, and their mantissas are noise.

Sizes:
  dense                the network as a safetensors file
  gpmt exact           gpmt.save_sparse, lossless; "ideal" is kept values + entropy of the masks + dense rest
  gpmt fp16/bf16/int8  kept values in fewer bits; the error is the largest |stored − original| of any weight
  values + bitmask     kept values and one bit a weight, of each tensor where that is smaller, nothing for names
  CSR                  kept values, an int32 index each and one a row, of [first dimension, rest], likewise
  gzip, zstd           of the dense file

Speeds are GB/s of dense bytes: medians over repetitions in which all methods take turns, in one process, on files
that are in the page cache; a ratio compares times of the same turn, and its median is shown. Writing ends when the
file is synchronised to the disk that `--folder` names. Whatever maps its file is timed until every page was touched.

Memory is the highest that anonymous memory (RssAnon of /proc/self/status, sampled each half a millisecond) rose in a
process of its own, less the tensors that reading returns; pages of mapped files are counted apart, as the system can
take them back at any time.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torchvision
import zstandard
from safetensors.torch import load_file, save_file
from torch import Tensor

import gpmt
from gpmt.formats.checkpoint import load_checkpoint
from gpmt.system import cpu_name

Weights = dict[str, Tensor]
SPARSITIES = (0.8, 0.9, 0.95, 0.98)
SUFFIX = ".sparse.safetensors"


def resnet50(sparsity: float, *, quick: bool) -> Weights:
    """Return a state_dict at uniform sparsity; its first two stages alone where `quick`."""
    torch.manual_seed(0)
    weights: Weights = torchvision.models.resnet50().state_dict()
    for name, tensor in weights.items():
        if tensor.ndim == 1:  # of batch norms, and the bias of the last layer
            tensor.uniform_(0.5, 1.5) if name.endswith(("weight", "var")) else tensor.normal_()
    if quick:
        weights = {name: tensor for name, tensor in weights.items() if name.startswith(("layer1", "layer2"))}
    gpmt.plan(weights, sparsity=sparsity, allocation="uniform").masks().apply_(weights)
    return weights


# Sizes


def measure_sizes(weights: Weights, folder: Path, *, quick: bool) -> list[dict[str, Any]]:
    weights = once(weights)
    dense = folder / "dense.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, dense)
    rows: list[dict[str, Any]] = [{"method": "dense", "bytes": dense.stat().st_size}]
    exact = gpmt.save_sparse(weights, folder / f"exact{SUFFIX}")
    rows.append({"method": "gpmt exact", "bytes": exact.bytes, "of_ideal": exact.bytes / exact.ideal_bytes})
    for values in ("fp16", "bf16", "int8"):
        try:
            size = gpmt.save_sparse(weights, folder / f"{values}{SUFFIX}", values=values)
        except gpmt.GpmtError as error:
            rows.append({"method": f"gpmt {values}", "bytes": None, "refused": str(error)})
            continue
        rows.append({"method": f"gpmt {values}", "bytes": size.bytes, "error": size.error})
    rows.append({"method": "values + bitmask", "bytes": sum(map(bitmask_bytes, weights.values()))})
    rows.append({"method": "CSR", "bytes": sum(map(csr_bytes, weights.values()))})
    rows.append({"method": "gzip -6", "bytes": compressed_bytes(dense, zlib.compressobj(6, wbits=31))})
    for level in (3,) if quick else (3, 19):
        compressor = zstandard.ZstdCompressor(level=level).compressobj(size=dense.stat().st_size)
        rows.append({"method": f"zstd -{level}", "bytes": compressed_bytes(dense, compressor)})
    return rows


def once(weights: Weights) -> Weights:
    """Leave out further names of tied tensors, of which no format stores more than the name."""
    seen: dict[Any, str] = {}
    for name, tensor in weights.items():
        seen.setdefault((tensor.data_ptr() or name, tensor.shape, tensor.stride(), tensor.dtype), name)
    return {name: weights[name] for name in seen.values()}


def bitmask_bytes(tensor: Tensor) -> int:
    kept = int(tensor.count_nonzero()) * tensor.element_size()
    return min(tensor.nbytes, kept + (tensor.numel() + 7) // 8)


def csr_bytes(tensor: Tensor) -> int:
    if tensor.ndim < 2:
        return tensor.nbytes
    kept = int(tensor.count_nonzero())
    return min(tensor.nbytes, kept * (tensor.element_size() + 4) + 4 * (len(tensor) + 1))


def compressed_bytes(path: Path, compressor: Any) -> int:
    with path.open("rb") as file:
        length = sum(len(compressor.compress(chunk)) for chunk in iter(lambda: file.read(1 << 20), b""))
    return length + len(compressor.flush())


# Speeds


def measure_speeds(weights: Weights, folder: Path, repetitions: int) -> list[dict[str, Any]]:
    dense, sparse, pickled = folder / "dense.safetensors", folder / f"sparse{SUFFIX}", folder / "dense.pt"
    save_file(weights, dense)
    gpmt.save_sparse(weights, sparse)
    torch.save(weights, pickled)
    raw = dense.read_bytes()
    compressed = zstandard.ZstdCompressor(level=3).compress(raw)

    def load(threads: int) -> Weights:
        with gpmt.SparseFile(sparse) as file:
            return file.load(threads=threads)

    methods: dict[str, Callable[[], object]] = {
        "gpmt writes": lambda: gpmt.save_sparse(weights, folder / f"written{SUFFIX}"),
        "safetensors writes": lambda: write_synchronised(weights, folder / "written.safetensors"),
        "zstd -3 compresses": lambda: zstandard.ZstdCompressor(level=3).compress(raw),
        "gpmt reads, 1 thread": lambda: load(1),
        "gpmt reads, 2 threads": lambda: load(2),
        "torch.load": lambda: torch.load(pickled, weights_only=True, mmap=False),
        "safetensors load_file": lambda: touch(load_file(dense)),
        "zstd -3 decompresses": lambda: zstandard.ZstdDecompressor().decompress(compressed),
    }
    times: dict[str, list[float]] = {name: [] for name in methods}
    for repetition in range(repetitions + 1):
        for name, method in methods.items():
            start = time.perf_counter()
            method()
            if repetition:  # the first round compiles and warms the caches
                times[name].append(time.perf_counter() - start)
    size = sum(tensor.nbytes for tensor in weights.values())
    rows = []
    for name, taken in times.items():
        base = times["gpmt reads, 1 thread" if list(methods).index(name) > 2 else "gpmt writes"]
        ratio = statistics.median(other / own for own, other in zip(base, taken, strict=True))
        rows.append({"method": name, "gb_per_s": size / statistics.median(taken) / 1e9, "times_gpmt": ratio})
    return rows


def write_synchronised(weights: Weights, path: Path) -> None:
    save_file(weights, path)
    with path.open("rb") as file:
        os.fsync(file.fileno())


def touch(weights: Weights) -> int:
    """Read a byte of every page."""
    return sum(int(t.reshape(-1).view(torch.uint8)[::4096].sum()) for t in weights.values() if t.ndim)


# Memory


def measure_memory(task: str, folder: Path) -> dict[str, int]:
    """Return by how much memory rose; run in a process of its own, on the files of `measure_speeds`."""
    sparse, result = folder / f"sparse{SUFFIX}", 0
    small = {"w": torch.eye(600)}
    gpmt.save_sparse(small, folder / f"small{SUFFIX}")  # import and compile
    gpmt.load_sparse(folder / f"small{SUFFIX}")
    weights = torch.load(folder / "dense.pt", weights_only=True, mmap=False) if task == "write" else {}
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what is free goes back, so that using it again shows
    with Peak() as peak:
        if task == "write":
            gpmt.save_sparse(weights, folder / f"written{SUFFIX}")
        else:
            weights = gpmt.load_sparse(sparse)
            result = sum(tensor.nbytes for tensor in weights.values())
    return {"anonymous": peak.anonymous - result, "file": peak.file}


class Peak:
    """The highest that this process's memory rose inside the block, in bytes."""

    anonymous = file = 0

    def __enter__(self) -> Peak:
        self._before, self._stop = resident(), threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            stopped = self._stop.wait(0.0005)
            now = [own - before for own, before in zip(resident(), self._before, strict=True)]
            self.anonymous, self.file = max(self.anonymous, now[0]), max(self.file, now[1])
            if stopped:
                return


def resident() -> tuple[int, int]:
    status = Path("/proc/self/status").read_text()
    anonymous, file = (int(status.split(f"{name}:")[1].split()[0]) << 10 for name in ("RssAnon", "RssFile"))
    return anonymous, file


# Tables


def print_sizes(title: str, rows: list[dict[str, Any]]) -> None:
    exact = rows[1]["bytes"]
    print(f"\n{title}\n{'':18} {'bytes':>13} {'of dense':>9} {'× gpmt':>7}")
    for row in rows:
        if row["bytes"] is None:
            print(f"{row['method']:18} {row['refused']}")
            continue
        note = f"  {row['of_ideal']:.4f} of the ideal" if "of_ideal" in row else ""
        note += f"  largest error {row['error']:.2e}" if "error" in row else ""
        share, ratio = row["bytes"] / rows[0]["bytes"], row["bytes"] / exact
        print(f"{row['method']:18} {row['bytes']:13,} {share:9.2%} {ratio:7.2f}{note}")


def print_speeds(rows: list[dict[str, Any]], memory: dict[str, dict[str, int]]) -> None:
    print(f"{'':22} {'GB/s':>7} {'time × gpmt':>12}")
    for row in rows:
        print(f"{row['method']:22} {row['gb_per_s']:7.2f} {row['times_gpmt']:12.2f}")
    for task, rise in memory.items():
        anonymous, file = (rise[kind] / 2**20 for kind in ("anonymous", "file"))
        print(f"memory beyond the network to {task}: {anonymous:.1f} MiB, and {file:.1f} MiB of mapped files")


def measure_network(arguments: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    for sparsity in arguments.sparsity:
        weights = resnet50(sparsity, quick=arguments.quick)
        sizes = measure_sizes(weights, folder, quick=arguments.quick)
        speeds = measure_speeds(weights, folder, arguments.repetitions)
        memory = {}
        for task in ("write", "read"):
            command = [sys.executable, __file__, "--memory-of", task, "--folder", str(folder)]
            output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
            memory[task] = json.loads(output.splitlines()[-1])
        numel = sum(tensor.numel() for tensor in weights.values())
        print_sizes(
            f"ResNet-50{' in part' * arguments.quick}, {numel:,} values, sparsity {sparsity:.0%}", sizes
        )
        print_speeds(speeds, memory)
        yield {"sparsity": sparsity, "sizes": sizes, "speeds": speeds, "memory": memory}


def measure_file(path: Path, folder: Path, *, quick: bool) -> dict[str, Any]:
    weights = load_checkpoint(path).state_dict
    numel = sum(tensor.numel() for tensor in weights.values())
    zeros = numel - sum(int(tensor.count_nonzero()) for tensor in weights.values())
    sizes = measure_sizes(weights, folder, quick=quick)
    print_sizes(f"{path}, {numel:,} values, {zeros / max(numel, 1):.2%} of them zero", sizes)
    return {"file": str(path), "sizes": sizes}


def share(text: str) -> float:
    value = float(text)
    if not (0 <= value < 1 and math.isfinite(value)):
        raise argparse.ArgumentTypeError(f"{text} is not a sparsity; give numbers such as 0.9")
    return value


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="the sizes of these instead")
    parser.add_argument("--sparsity", nargs="+", type=share, default=SPARSITIES)
    parser.add_argument("--repetitions", type=int, default=None, help="7, or 2 with --quick")
    parser.add_argument("--quick", action="store_true", help="a part of the network, and no zstd -19")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--folder", type=Path, help="folder for temporary files: the disk that is measured")
    parser.add_argument("--memory-of", choices=("read", "write"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory_of:
        print(json.dumps(measure_memory(arguments.memory_of, arguments.folder)))
        return
    arguments.repetitions = arguments.repetitions or (2 if arguments.quick else 7)

    machine = f"{cpu_name()}, torch {torch.__version__}"
    print(f"{machine}; {arguments.repetitions} repetitions; zstandard {zstandard.__version__}")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        if arguments.files:
            figures = [measure_file(path, Path(name), quick=arguments.quick) for path in arguments.files]
        else:
            figures = list(measure_network(arguments, Path(name)))
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine, "figures": figures}, indent=2) + "\n")


if __name__ == "__main__":
    main()
