"""The allocations: how the kept weights are shared among the tensors. Each file of this folder is one.

An allocation's name is that of its file, and the file defines one subclass of
`gpmt.core.selection.allocation.Allocation`.
Listing the names imports none of the files, so it is fast enough for the help of the command line.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING

from gpmt.errors import BudgetError

if TYPE_CHECKING:
    from gpmt.core.selection.allocation import Allocation


def names() -> list[str]:
    """Return the names of all allocations, sorted."""
    return sorted(module.name for module in iter_modules(__path__))


def check_name(name: str) -> str:
    """Return `name`; raise `BudgetError` where no allocation has it."""
    if name not in names():
        raise BudgetError(f"allocation is {name!r}, but must be one of {', '.join(names())}")
    return name


def find(name: str) -> Allocation:
    """Return the allocation of that name; raise `BudgetError` for an unknown one."""
    from gpmt.core.selection.allocation import Allocation

    module = import_module(f"{__name__}.{check_name(name)}")
    [kind] = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Allocation) and value.__module__ == module.__name__
    ]
    return kind()
