"""LLVM IR to machine code in this process, through a cache of object files on disk."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from functools import cache

import llvmlite
import llvmlite.binding as llvm

from gpmt.runtime.codegen.disk_cache import cache_folder, read_checked, write_checked
from gpmt.runtime.codegen.llvmlite_private import library_lock
from gpmt.runtime.codegen.processor import Processor, host, initialize_llvm

_FORMAT = 1

_LOCK = threading.RLock()
_LOADED: dict[tuple[str, str], int] = {}
_LIBRARIES: list[object] = []  # the loaded code lives as long as these


def load(source: str, symbol: str = "kernel", *, make: Callable[[], str] | None = None) -> int:
    """Return the address of a function that is compiled for this processor.

    Args:
        source: the LLVM IR of a module; or, with `make`, any text that identifies it.
        symbol: the function's name.
        make: returns the LLVM IR. It is called only if the compiled code is not in the cache.
    """
    key = hashlib.sha256(source.encode()).hexdigest()
    with _LOCK:
        if (key, symbol) not in _LOADED:
            _LOADED[key, symbol] = _link(_cached(make or (lambda: source), key, host()), key, symbol)
        return _LOADED[key, symbol]


def compile_object(ir: str, processor: Processor) -> bytes:
    """Return the object file that a module of LLVM IR compiles to."""
    data: bytes = _machine(processor).emit_object(_optimised(ir, processor))
    return data


def assembly(ir: str, processor: Processor) -> str:
    """Return the assembly that a module of LLVM IR compiles to, for people and for tests."""
    text: str = _machine(processor).emit_assembly(_optimised(ir, processor))
    return text


def fingerprint(processor: Processor) -> str:
    """Return a text of all that compiled code depends on besides its LLVM IR."""
    return f"{_FORMAT} {llvmlite.__version__} {llvm.llvm_version_info} {processor}"


def _optimised(ir: str, processor: Processor) -> llvm.ModuleRef:
    initialize_llvm()
    machine = _machine(processor)
    module = llvm.parse_assembly(ir)
    module.verify()  # LLVM's passes end the process if a module is invalid
    module.triple = processor.triple
    module.data_layout = str(machine.target_data)
    # Kernels are written unrolled and in vectors already: doing it again only spills registers.
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    options.loop_unrolling = options.loop_vectorization = False
    options.slp_vectorization = options.loop_interleaving = False
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    return module


def _cached(make: Callable[[], str], key: str, processor: Processor) -> bytes:
    """Return the object file of a module from the cache, or compile it and write it there."""
    name = hashlib.sha256(f"{fingerprint(processor)} {key}".encode()).hexdigest()
    path = cache_folder() / "kernels" / name[:2] / f"{name}.o"
    stored = read_checked(path)
    if stored is not None:
        return stored
    data = compile_object(make(), processor)
    write_checked(path, data)
    return data


def _link(data: bytes, key: str, symbol: str) -> int:
    library = llvm.JITLibraryBuilder().add_object_img(data).add_current_process().export_symbol(symbol)
    tracker = library.link(_linker(), f"gpmt-{key[:24]}-{symbol}")
    _LIBRARIES.append(tracker)
    return int(tracker[symbol])


@cache
def _machine(processor: Processor) -> llvm.TargetMachine:
    initialize_llvm()
    return llvm.Target.from_triple(processor.triple).create_target_machine(
        cpu=processor.cpu, features=processor.features, opt=2, reloc="pic", codemodel="small", jit=False
    )


@cache
def _linker() -> llvm.LLJIT:
    processor = host()
    machine = llvm.Target.from_triple(processor.triple).create_target_machine(
        cpu=processor.cpu, features=processor.features, opt=2, jit=True
    )
    return llvm.create_lljit_compiler(machine, use_jit_link=False)


def _before_fork() -> None:
    """Take all locks: if another thread held one during the fork, nothing in the child would ever release it."""
    _LOCK.acquire()
    library_lock().__enter__()


def _after_fork() -> None:
    library_lock().__exit__(None, None, None)
    _LOCK.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
