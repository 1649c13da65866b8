"""The processor that kernels are made for, and how their LLVM IR becomes code: compiled once, then kept on disk."""

from __future__ import annotations

import hashlib
import os
import platform
import stat
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import llvmlite
import llvmlite.binding as llvm

_FORMAT = 1


@dataclass(frozen=True)
class Target:
    """A processor as LLVM names it.

    Attributes:
        triple, cpu, features: what LLVM generates code for.
        lanes: float32 numbers in a vector register.
        registers: how many vector registers there are.
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


def named(kind: str) -> Target:
    """Return a typical processor of a kind, such as "avx512": code for it can be made anywhere and run there.

    >>> named("neon").lanes
    4
    """
    return Target(*_NAMED[kind], *_VECTORS[kind], kind)


@cache
def host() -> Target:
    """Return the processor that this process runs on; without AVX2 with FMA, or NEON, it is of the kind "plain".

    The environment variable GPMT_TARGET=avx2 (or plain) makes an x86 processor that has more work with less.
    """
    _initialise()
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
        return Target(
            llvm.get_process_triple(), less.cpu, less.features, less.lanes, less.registers, less.kind
        )
    return Target(
        llvm.get_process_triple(), llvm.get_host_cpu_name(), features.flatten(), *_VECTORS[kind], kind
    )


def compile_object(ir: str, target: Target) -> bytes:
    """Compile a module's text to an object file."""
    data: bytes = _machine(target).emit_object(_optimised(ir, target))
    return data


def assembly(ir: str, target: Target) -> str:
    """Return what a module compiles to, for people and for tests."""
    text: str = _machine(target).emit_assembly(_optimised(ir, target))
    return text


def _optimised(ir: str, target: Target) -> llvm.ModuleRef:
    _initialise()
    machine = _machine(target)
    module = llvm.parse_assembly(ir)
    module.verify()  # or the passes would end the process
    module.triple = target.triple
    module.data_layout = str(machine.target_data)
    # Loops are written as they shall run: unrolling or vectorising them again only spills registers.
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    options.loop_unrolling = options.loop_vectorization = False
    options.slp_vectorization = options.loop_interleaving = False
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    return module


def load(source: str, symbol: str = "kernel", *, make: Callable[[], str] | None = None) -> int:
    """Return the address of a function, compiled for this processor; equal sources are compiled once.

    Args:
        source: a module's LLVM IR; or, with `make`, any text that tells it from all others.
        symbol: the function's name.
        make: returns the IR. It is called only where the compiled code is not on the disk.
    """
    key = hashlib.sha256(source.encode()).hexdigest()
    with _LOCK:
        if (key, symbol) not in _LOADED:
            _LOADED[key, symbol] = _link(_cached(make or (lambda: source), key, host()), key, symbol)
        return _LOADED[key, symbol]


_LOCK = threading.RLock()


def _before_fork() -> None:
    """Wait until LLVM is at rest: the child of a fork in the middle would have its locks, and nobody to free them."""
    _LOCK.acquire()
    llvm.ffi.lib._lock.__enter__()  # llvmlite's own, which it also takes when it frees something


def _after_fork() -> None:
    llvm.ffi.lib._lock.__exit__()
    _LOCK.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
_LOADED: dict[tuple[str, str], int] = {}
_KEPT: list[object] = []  # what the loaded code lives in


def _link(data: bytes, key: str, symbol: str) -> int:
    library = llvm.JITLibraryBuilder().add_object_img(data).add_current_process().export_symbol(symbol)
    tracker = library.link(_linker(), f"gpmt-{key[:24]}-{symbol}")
    _KEPT.append(tracker)
    return int(tracker[symbol])


def cache_folder() -> Path:
    """Return where compiled kernels and tuning results are kept: $GPMT_CACHE, or gpmt in the user's cache folder."""
    if chosen := os.environ.get("GPMT_CACHE"):
        return Path(chosen)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "gpmt"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gpmt"


def fingerprint(target: Target) -> str:
    """Return what compiled code depends on beside its text."""
    return f"{_FORMAT} {llvmlite.__version__} {llvm.llvm_version_info} {target}"


def _cached(make: Callable[[], str], key: str, target: Target) -> bytes:
    """Return the object file of a module from the disk, or compile it and keep it there.

    The cache is an optimisation: a folder that cannot be written to, or a damaged file, or one
    that another user can have written, costs time only.
    """
    name = hashlib.sha256(f"{fingerprint(target)} {key}".encode()).hexdigest()
    path = cache_folder() / "kernels" / name[:2] / f"{name}.o"
    with suppress(OSError), path.open("rb") as file:
        stored = file.read() if _is_ours(os.fstat(file.fileno())) else b""
        if hashlib.sha256(stored[32:]).digest() == stored[:32]:
            return stored[32:]
    data = compile_object(make(), target)
    # Without waiting for the disk: the digest tells a whole file from the rest.
    keep(path, hashlib.sha256(data).digest() + data)
    return data


def _is_ours(status: os.stat_result) -> bool:
    """Whether nobody but this user and the administrator can have written a file: its code will be run."""
    if not hasattr(os, "geteuid"):
        return True
    return status.st_uid in (os.geteuid(), 0) and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def keep(path: Path, data: bytes) -> None:
    """Write a file of the cache, whole or not at all, that only this user can change; or give up quietly."""
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        number, temporary = tempfile.mkstemp(dir=path.parent, prefix=".")
        try:
            with os.fdopen(number, "wb") as file:
                file.write(data)
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise


@cache
def _initialise() -> None:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()


@cache
def _machine(target: Target) -> llvm.TargetMachine:
    _initialise()
    return llvm.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu, features=target.features, opt=2, reloc="pic", codemodel="small", jit=False
    )


@cache
def _linker() -> llvm.LLJIT:
    target = host()
    machine = llvm.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu, features=target.features, opt=2, jit=True
    )
    return llvm.create_lljit_compiler(machine, use_jit_link=False)
