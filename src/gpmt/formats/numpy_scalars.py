"""NumPy scalars and arrays in old checkpoints, rebuilt from bytes without NumPy's own unpickling code."""

from __future__ import annotations

import pickle
import re
from typing import Any

import numpy as np

# NumPy's functions for unpickling take any type, objects too, and trust the state they are given. The
# classes that take their place here accept plain numbers only and check their length.


class _Dtype:
    """In the place of ``numpy.dtype``: the code of a number type, such as "f8"."""

    def __init__(self, code: str, *_: Any) -> None:
        if not isinstance(code, str) or not re.fullmatch(r"b1|[iu][1248]|f[248]|c8|c16", code):
            raise pickle.UnpicklingError(f"GLOBAL numpy.dtype({code!r}) is not a type of plain numbers")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] == ">":
            self.dtype = self.dtype.newbyteorder(">")

    def __reduce__(self) -> Any:
        return self.dtype.__reduce__()


class _Array:
    """In the place of ``numpy.ndarray``; pickled again, it is the array that was read."""

    def __init__(self, *_: Any) -> None:
        self.array = np.empty(0)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, raw = state
        self.array = _values(dtype, raw).reshape(shape, order="F" if fortran else "C")

    def __reduce__(self) -> Any:
        return self.array.__reduce__()


def _values(dtype: _Dtype, raw: bytes) -> np.ndarray[Any, np.dtype[Any]]:
    return np.frombuffer(raw, dtype=dtype.dtype)


def _scalar(dtype: _Dtype, raw: bytes) -> Any:
    """In the place of NumPy's ``scalar``: return a Python number of the same value, which any reader accepts."""
    (number,) = _values(dtype, raw)
    return number.item()


NUMPY_GLOBALS: list[tuple[Any, str]] = [
    (_Dtype, "numpy.dtype"),
    (_Array, "numpy.ndarray"),
    *((_scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    *((_Array, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
]
"""Pairs of a callable and the global that it replaces, for ``torch.serialization.safe_globals``."""
