"""The interface of kernels, and their compiled code."""

from __future__ import annotations

import hashlib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import ClassVar, Protocol, TypeVar

from gpmt.runtime.codegen import jit

T = TypeVar("T")


class KernelCode(Protocol):
    """The parameters of a kernel's machine code, as a frozen dataclass: equal ones have the same code."""

    def emit(self) -> str:
        """Return the LLVM IR of `void kernel(int64* args, int64 item)`."""


class KernelSpec(ABC):
    """A kernel with the sizes of one step, as a frozen dataclass.

    Attributes:
        ARGS: names of the kernel's arguments, in their order. Each is an int64: an address or an integer.
        OPTIONAL_ARGS: those that need not be given; they are 0 then.
    """

    ARGS: ClassVar[tuple[str, ...]]
    OPTIONAL_ARGS: ClassVar[tuple[str, ...]] = ()

    @property
    @abstractmethod
    def items(self) -> int:
        """Number of work items, which threads may do in any order."""

    @property
    @abstractmethod
    def code(self) -> KernelCode:
        """The parameters of the machine code. Sizes that it does not depend on are in an argument."""

    @property
    def description(self) -> str:
        """The kernel's name and parameters, for tables."""
        return type(self).__name__.removesuffix("Kernel")

    def in_order(self, arguments: Mapping[str, T]) -> list[T | None]:
        """Return arguments in the order of `ARGS`, None for optional ones that are not given.

        Raises:
            TypeError: an argument is missing, so that the machine code would read address 0; or one is unknown.
        """
        missing = [name for name in self.ARGS if name not in arguments and name not in self.OPTIONAL_ARGS]
        unknown = sorted(arguments.keys() - set(self.ARGS))
        if missing or unknown:
            raise TypeError(
                f"{type(self).__name__} lacks the arguments {missing} and does not take {unknown}"
            )
        return [arguments.get(name) for name in self.ARGS]


class FixedSizeKernel(KernelSpec):
    """A kernel whose machine code is for the sizes of one step."""

    @property
    def code(self) -> KernelCode:
        """The kernel itself."""
        return self

    @abstractmethod
    def emit(self) -> str:
        """Return the LLVM IR of `void kernel(int64* args, int64 item)`."""


def load(spec: KernelSpec) -> int:
    """Return the address of a kernel's machine code, from the cache if it was compiled before."""
    code = spec.code
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
