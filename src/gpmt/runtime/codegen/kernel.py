"""The interface of kernels, and their compiled code."""

from __future__ import annotations

import hashlib
import inspect
from functools import cache
from pathlib import Path
from typing import ClassVar, Protocol, cast

from gpmt.runtime.codegen import jit


class KernelCode(Protocol):
    """The parameters of a kernel's machine code, as a frozen dataclass: equal ones have the same code."""

    def emit(self) -> str:
        """Return the LLVM IR of `void kernel(int64* args, int64 item)`."""


class KernelSpec(Protocol):
    """A kernel with the sizes of one step, as a frozen dataclass.

    It is also the `KernelCode`, unless it has an attribute `code`, as kernels have whose machine code does not depend
    on all sizes: these are then in an argument.

    Attributes:
        ARGS: names of the kernel's arguments, in their order. Each is an int64: an address or an integer.
    """

    ARGS: ClassVar[tuple[str, ...]]

    @property
    def items(self) -> int:
        """Number of work items, which threads may do in any order."""


def load(spec: KernelSpec) -> int:
    """Return the address of a kernel's machine code, from the cache if it was compiled before."""
    code = cast(KernelCode, getattr(spec, "code", spec))
    own = _digest(inspect.getfile(type(code)))
    return jit.load(f"{sources()} {own} {code!r}", make=code.emit)


@cache
def sources() -> str:
    """Return a digest of the source files that generate kernels: if one changes, cached code is not used."""
    runtime = Path(__file__).parents[1]
    folders = (runtime / "codegen", runtime / "kernels", runtime / "layout")
    files = sorted(path for folder in folders for path in folder.rglob("*.py"))
    return _digest(runtime.parent / "arithmetic.py", *files)


@cache
def _digest(*paths: str | Path) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(Path(path).read_bytes())
    return digest.hexdigest()
