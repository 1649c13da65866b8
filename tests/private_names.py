"""The private names of other libraries that a module of gpmt uses, found in its source without importing it."""

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import gpmt

ROOT = Path(gpmt.__file__).parent
Node = TypeVar("Node", bound=ast.AST)


def is_private(name: str) -> bool:
    return any(part.startswith("_") and not part.endswith("__") for part in name.split("."))


def imported(module: str) -> list[str]:
    """Return the private names that a module, such as "torch_private", imports."""
    names = (f"{node.module}.{alias.name}" for node in _nodes(module, ast.ImportFrom) for alias in node.names)
    return sorted(filter(is_private, names))


def attributes(module: str) -> set[str]:
    """Return the private attributes that a module reads, also by `getattr` with a string."""
    read = {node.attr for node in _nodes(module, ast.Attribute) if is_private(node.attr)}
    strings = {str(node.value) for node in _nodes(module, ast.Constant)}
    return read | {text for text in strings if re.fullmatch(r"_\w+", text)}


def look_up(name: str) -> Any:
    module, _, last = name.rpartition(".")
    return getattr(importlib.import_module(module), last)


def last_parts(names: dict[str, Any]) -> set[str]:
    return {name.rpartition(".")[2] for name in names}


def _nodes(module: str, kind: type[Node]) -> Iterator[Node]:
    tree = ast.parse((ROOT / f"{module}.py").read_text())
    return (node for node in ast.walk(tree) if isinstance(node, kind))
