"""Numbers of any floating type as the decimals that they stand for."""

from __future__ import annotations

import math
from typing import Any

_DIGITS = 17
"""Significant digits that tell any two float64 apart."""


def shortest_decimal(value: Any) -> str:
    """Return the shortest decimal that rounds to a number in the number's own type: float32 has its own 0.9.

    Raises `ValueError`, `TypeError` or `OverflowError` for what is not one real number.

    >>> import numpy as np
    >>> shortest_decimal(np.float32(0.9)), float(np.float32(0.9)), shortest_decimal(0.9)
    ('0.9', 0.8999999761581421, '0.9')
    """
    dtype = getattr(value, "dtype", None)
    if dtype is None:
        return repr(float(value))
    if "bool" in str(dtype) or "complex" in str(dtype) or math.prod(value.shape) != 1:
        raise TypeError
    number = float(value.item())
    for digits in range(1, _DIGITS):
        text = f"{number:.{digits}g}"
        if _rounded(float(text), value) == number:
            return text
    return repr(number)


def _rounded(number: float, like: Any) -> float:
    """Round a number to the floating type of `like`, a number of NumPy or a tensor."""
    if hasattr(like, "new_tensor"):
        return float(like.new_tensor(number).item())
    return float(like.dtype.type(number))
