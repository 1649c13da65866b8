"""The importers, found in the folder of their kind; docs/extending.md says how to add one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast

from gpmt.formats.checkpoint import Checkpoint
from gpmt.masks import Masks

if TYPE_CHECKING:
    from gpmt.formats.importers.source import Source

Result_co = TypeVar("Result_co", covariant=True)


class Importer(Protocol[Result_co]):
    """What the module of an importer defines.

    It may also define `PICKLE_GLOBALS`, pairs of a callable and the name of the pickle global in whose place it is
    called, and `ASKED_LAST = True` where its signs can also be in a file that another importer recognises.

    Attributes:
        NAME: what wrote the file, for messages and `Checkpoint.source`.
    """

    NAME: str

    def recognises(self, source: Source) -> bool:
        """Tell whether the source is of this importer; nothing is read that its first bytes do not call for."""

    def read(self, source: Source) -> Result_co:
        """Read a source that `recognises` accepted."""


@dataclass(frozen=True)
class Kind(Generic[Result_co]):
    """One kind of importers: all modules of one package.

    Attributes:
        package: name of the package.
    """

    package: str

    def importers(self) -> tuple[Importer[Result_co], ...]:
        """Return the importers in the order in which they are asked: by name, those with `ASKED_LAST` at the end."""
        return cast("tuple[Importer[Result_co], ...]", _find(self.package))

    def recognising(self, source: Source) -> Importer[Result_co] | None:
        """Return the first importer that recognises a source, or None."""
        return next((importer for importer in self.importers() if importer.recognises(source)), None)


MASK_FILES: Kind[Masks] = Kind(f"{__package__}.mask_files")
"""Masks alone; `Source.weights` are the weights that they belong to. Asked first."""

WEIGHT_FILES: Kind[Checkpoint] = Kind(f"{__package__}.weight_files")
"""Weights as they are stored; `Source.checkpoint` is what one of them read."""

MASKED_WEIGHTS: Kind[Checkpoint] = Kind(f"{__package__}.masked_weights")
"""Plain weights and masks, made from `Source.checkpoint`. Asked last."""


def pickle_globals() -> list[tuple[Any, str]]:
    """Return the pickle globals that any importer needs beside those that plain weights need."""
    kinds = (MASK_FILES, WEIGHT_FILES, MASKED_WEIGHTS)
    return [pair for kind in kinds for one in kind.importers() for pair in getattr(one, "PICKLE_GLOBALS", ())]


@cache
def _find(package: str) -> tuple[Any, ...]:
    return tuple(sorted(_modules(package), key=lambda module: getattr(module, "ASKED_LAST", False)))


def _modules(package: str) -> Iterator[Any]:
    for entry in iter_modules(import_module(package).__path__):  # sorted by name
        yield import_module(f"{package}.{entry.name}")
