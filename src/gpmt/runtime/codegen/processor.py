"""The processor that kernels are compiled for: its name and features in LLVM, and its vector registers."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from functools import cache

import llvmlite.binding as llvm


@dataclass(frozen=True)
class Processor:
    """A processor.

    Attributes:
        triple, cpu, features: its description in LLVM.
        lanes: float32 elements of a vector register.
        registers: number of vector registers.
        kind: "avx512", "avx2", "neon" or "plain".
    """

    triple: str
    cpu: str
    features: str
    lanes: int
    registers: int
    kind: str


_VECTORS = {"avx512": (16, 32), "avx2": (8, 16), "neon": (4, 32), "plain": (4, 16)}
_NAMED = {
    "avx512": ("x86_64-unknown-linux-gnu", "icelake-server", ""),
    "avx2": ("x86_64-unknown-linux-gnu", "haswell", ""),
    "neon": ("aarch64-unknown-linux-gnu", "neoverse-n1", ""),
    "plain": ("x86_64-unknown-linux-gnu", "x86-64", ""),
}


def named(kind: str) -> Processor:
    """Return a typical processor of a kind, such as "avx512"; code for it can be generated on any machine.

    >>> named("neon").lanes
    4
    """
    return Processor(*_NAMED[kind], *_VECTORS[kind], kind)


@cache
def host() -> Processor:
    """Return the processor that this process runs on; without AVX2 with FMA, or NEON, it is of the kind "plain".

    The environment variable GPMT_TARGET=avx2 (or plain) restricts an x86 processor that has more.
    """
    initialize_llvm()
    features = llvm.get_host_cpu_features()
    if platform.machine().lower() in ("aarch64", "arm64"):
        kind = "neon"
    elif features.get("avx512f") and features.get("avx512vl"):
        kind = "avx512"
    elif features.get("avx2") and features.get("fma"):
        kind = "avx2"
    else:
        kind = "plain"
    wanted = os.environ.get("GPMT_TARGET")
    if (kind, wanted) in (("avx512", "avx2"), ("avx512", "plain"), ("avx2", "plain")):
        less = named(str(wanted))
        return Processor(
            llvm.get_process_triple(), less.cpu, less.features, less.lanes, less.registers, less.kind
        )
    return Processor(
        llvm.get_process_triple(), llvm.get_host_cpu_name(), features.flatten(), *_VECTORS[kind], kind
    )


@cache
def initialize_llvm() -> None:
    """Register LLVM's code generators, once for the process."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
