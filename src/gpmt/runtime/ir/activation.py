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
        kind: "none"; "clamp" to [low, high], which is ReLU and ReLU6 as well; "silu"; "hardswish"; "sigmoid"; "tanh";
            "gelu" with the error function; "gelu_tanh", which approximates it; "leaky_relu", whose slope below 0 is
            `low`.
    """

    kind: Literal[
        "none", "clamp", "silu", "hardswish", "sigmoid", "tanh", "gelu", "gelu_tanh", "leaky_relu"
    ] = "none"
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


def _gelu(arguments: Mapping[str, Any]) -> Activation | None:
    kinds: dict[str, Activation] = {"none": Activation("gelu"), "tanh": Activation("gelu_tanh")}
    return kinds.get(arguments.get("approximate", "none"))


def _leaky(slope: Any) -> Activation | None:
    known = isinstance(slope, int | float) and abs(slope) <= _MAX_FLOAT
    return Activation("leaky_relu", float(slope)) if known else None


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
    "tanh": lambda _: Activation("tanh"),
    "gelu": _gelu,
    "leaky_relu": lambda a: _leaky(a["negative_slope"]),
}
"""The activation that an ATen operator is, by its name; a function of its arguments. None for other bounds."""
