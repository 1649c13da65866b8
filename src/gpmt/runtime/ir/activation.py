"""Activations that kernels apply to every element of an operator's output."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

_MAX_FLOAT = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Activation:
    """A function of one element.

    Attributes:
        kind: "none"; "clamp" to [low, high], which is ReLU and ReLU6 as well; "silu"; "hardswish"; "sigmoid".
    """

    kind: Literal["none", "clamp", "silu", "hardswish", "sigmoid"] = "none"
    low: float = -np.inf
    high: float = np.inf


IDENTITY = Activation()
RELU = Activation("clamp", 0.0)
RELU6 = Activation("clamp", 0.0, 6.0)


def _clamp(low: Any, high: Any) -> Activation | None:
    low, high = -math.inf if low is None else low, math.inf if high is None else high
    if not isinstance(low, int | float) or not isinstance(high, int | float) or not low <= high:
        return None
    if low == math.inf or high == -math.inf or any(_MAX_FLOAT < abs(b) < math.inf for b in (low, high)):
        return None
    return Activation("clamp", float(low), float(high))


ATEN_ACTIVATIONS: Mapping[str, Callable[[Mapping[str, Any]], Activation | None]] = {
    "relu": lambda _: RELU,
    "relu6": lambda _: RELU6,
    "hardtanh": lambda a: _clamp(a["min_val"], a["max_val"]),
    "clamp": lambda a: _clamp(a["min"], a["max"]),
    "clip": lambda a: _clamp(a["min"], a["max"]),
    "clamp_min": lambda a: _clamp(a["min"], None),
    "clamp_max": lambda a: _clamp(None, a["max"]),
    "silu": lambda _: Activation("silu"),
    "hardswish": lambda _: Activation("hardswish"),
    "sigmoid": lambda _: Activation("sigmoid"),
}
"""The activation that an ATen operator is, by its name; a function of its arguments. None for other bounds."""
