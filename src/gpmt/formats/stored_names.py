"""The names of tensors in a file: their order in the network, and what wrappers put before them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

PREFIXES = ("module.", "_orig_mod.")
"""What DataParallel and torch.compile put before every name."""


def read_names(text: str) -> dict[str, Any]:
    """Read the order and ties that gpmt notes in files of safetensors; nothing where another program used the key."""
    try:
        noted = json.loads(text)
        names, tied = list(map(str, noted["names"])), dict(noted["tied"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return {}
    return {"names": names, "tied": tied} if all(isinstance(first, str) for first in tied.values()) else {}


def common_prefix(names: Iterable[str]) -> str:
    """Return the prefix of wrappers that all names have.

    >>> common_prefix(["_orig_mod.module.a", "_orig_mod.module.b"])
    '_orig_mod.module.'
    """
    names, prefix = list(names), ""
    while step := next((p for p in PREFIXES if all(name.startswith(prefix + p) for name in names)), ""):
        prefix += step
    return prefix
