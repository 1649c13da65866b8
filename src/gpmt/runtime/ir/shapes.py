"""What the shape rules of operators share: the error, windows of images, and sizes against memory."""

from __future__ import annotations

import math

from gpmt.runtime.ir.values import Padding, Pair, Shape


class ShapeError(ValueError):
    """An operator whose values or weights do not fit together."""


def require(condition: bool, otherwise: str) -> None:
    """Raise `ShapeError` with this text where a condition does not hold."""
    if not condition:
        raise ShapeError(otherwise)


def require_last_features(shape: Shape) -> None:
    """Raise `ShapeError` where kernels take the channels of single pixels for the features, not the last axis."""
    require(len(shape) != 4 or shape[2:] != (1, 1), "its features are not the channels of its pixels")


def check_memory(name: str, shape: Shape, memory: int) -> None:
    """Raise `ShapeError` where a float32 tensor takes more than so many bytes."""
    needed = 4 * math.prod(shape)
    if needed > memory:
        raise ShapeError(f"{name} would take {needed:,} bytes of memory, more than the {memory:,} there are")


def count_windows(source: Shape, kernel: Pair, stride: Pair, padding: Padding, memory: int) -> Pair:
    """Return how many windows of an image there are, down and across."""
    padded = source[2] + padding[0] + padding[2], source[3] + padding[1] + padding[3]
    require(padded[0] >= kernel[0] and padded[1] >= kernel[1], "its window is larger than its input")
    # Rows lie in memory with their padding.
    check_memory("its input with padding", (*source[:2], *padded), memory)
    return (padded[0] - kernel[0]) // stride[0] + 1, (padded[1] - kernel[1]) // stride[1] + 1
