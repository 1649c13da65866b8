"""Numbers of ATen as pairs and paddings of images."""

from __future__ import annotations

from typing import Any

from gpmt.runtime.ir.values import Padding, Pair


def pair(numbers: Any) -> Pair:
    """Return one or two numbers of ATen as (vertical, horizontal)."""
    if isinstance(numbers, int):
        return numbers, numbers
    listed = [int(number) for number in numbers]
    return (listed[0], listed[-1])


def add_padding(one: Padding, other: Padding) -> Padding:
    """Return the padding of two paddings around each other."""
    return one[0] + other[0], one[1] + other[1], one[2] + other[2], one[3] + other[3]
