"""What every kernel has in common, and code for one without writing it twice."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import ClassVar, Protocol, cast

from gpmt.runtime import target


class Code(Protocol):
    """All that machine code depends on; frozen, so equal ones are the same code."""

    def emit(self) -> str:
        """Return the LLVM IR of `void kernel(int64* args, int64 item)`."""


class Spec(Protocol):
    """A step's way through a kernel.

    Attributes:
        ARGS: what the kernel's arguments are, in their order.
    """

    ARGS: ClassVar[tuple[str, ...]]

    @property
    def items(self) -> int:
        """Pieces of work, which threads may do in any order."""


def load(spec: Spec) -> int:
    """Return the address of a kernel's code; from the disk if this version has made it before.

    A spec is its own code, unless it has an attribute `code` that says what its machine code depends on.
    """
    code = cast(Code, getattr(spec, "code", spec))
    return target.load(f"{sources()} {code!r}", make=code.emit)


@cache
def sources() -> str:
    """Return a digest of the texts that write the kernels: other texts, other code."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
