"""What every kernel has in common, and code for one without writing it twice."""

from __future__ import annotations

import hashlib
import inspect
from functools import cache
from pathlib import Path
from typing import ClassVar, Protocol, cast

from gpmt.runtime.codegen import jit


class KernelCode(Protocol):
    """All that machine code depends on; frozen, so equal ones are the same code."""

    def emit(self) -> str:
        """Return the LLVM IR of `void kernel(int64* args, int64 item)`."""


class KernelSpec(Protocol):
    """A step's way through a kernel.

    Attributes:
        ARGS: what the kernel's arguments are, in their order.
    """

    ARGS: ClassVar[tuple[str, ...]]

    @property
    def items(self) -> int:
        """Pieces of work, which threads may do in any order."""


def load(spec: KernelSpec) -> int:
    """Return the address of a kernel's code; from the disk if this version has made it before.

    A spec is its own code, unless it has an attribute `code` that says what its machine code depends on.
    """
    code = cast(KernelCode, getattr(spec, "code", spec))
    own = _digest_of(inspect.getfile(type(code)))
    return jit.load(f"{sources()} {own} {code!r}", make=code.emit)


@cache
def sources() -> str:
    """Return a digest of the texts that all kernels depend on: other texts, other code."""
    runtime = Path(__file__).parents[1]
    folders = (runtime / "codegen", runtime / "kernels", runtime / "layout")
    return _digest_of(*sorted(path for folder in folders for path in folder.glob("*.py")))


@cache
def _digest_of(*paths: str | Path) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(Path(path).read_bytes())
    return digest.hexdigest()
