"""Values of a graph: named tensors of a fixed shape."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Shape = tuple[int, ...]
Pair = tuple[int, int]
"""(vertical, horizontal)."""
Padding = tuple[int, int, int, int]
"""(top, left, bottom, right)."""


@dataclass(frozen=True)
class Value:
    """A tensor that operators read or write."""

    name: str
    shape: Shape
    dtype: torch.dtype = torch.float32
