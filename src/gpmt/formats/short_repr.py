"""Values of a file in messages."""

from __future__ import annotations


def short_repr(value: object, limit: int = 100) -> str:
    """Return the repr of a value, cut short where it is long; of a list, tuple or dict only the type.

    >>> short_repr("model-00001.safetensors"), short_repr("x" * 1000, limit=5)
    ("'model-00001.safetensors'", "'xxxxx...'")
    """
    if isinstance(value, str):
        return repr(value if len(value) <= limit else value[:limit] + "...")
    return type(value).__name__ if isinstance(value, (list, tuple, dict)) else repr(value)[:limit]
