"""Sums of magnitudes over units, in a fixed order: numba loops, which add as they are written."""

from __future__ import annotations

from typing import Any

import numba
from numpy.typing import NDArray

Array = NDArray[Any]


def add_magnitudes(rows: Array, layer: int, output: int, width: int, sums: Array) -> None:
    """Add |w| to the sum of each weight's unit, in the order of the weights.

    Args:
        rows: float64 [outputs, inputs, taps] of one layer.
        layer: the layer.
        output: the first of the outputs.
        width: how many inputs follow one another in a unit that does not hold all.
        sums: float64 [layers, outputs, inputs / width, taps]; 1 where a unit holds all of a dimension.
    """
    _add_magnitudes(rows, layer, output, width, sums)


def mark_live(rows: Array, layer: int, output: int, width: int, live: Array) -> None:
    """Mark the unit of each weight that is not zero; `rows` and `live` are bools, laid out as by `add_magnitudes`."""
    _mark_live(rows, layer, output, width, live)


_jit = numba.njit(nogil=True, cache=True)


@_jit
def _add_magnitudes(rows, layer, output, width, sums):  # type: ignore[no-untyped-def]
    layer = layer if sums.shape[0] > 1 else 0
    for i in range(rows.shape[0]):
        row = output + i if sums.shape[1] > 1 else 0
        for j in range(rows.shape[1]):
            column = j // width if sums.shape[2] > 1 else 0
            for k in range(rows.shape[2]):
                tap = k if sums.shape[3] > 1 else 0
                sums[layer, row, column, tap] += abs(rows[i, j, k])


@_jit
def _mark_live(rows, layer, output, width, live):  # type: ignore[no-untyped-def]
    layer = layer if live.shape[0] > 1 else 0
    for i in range(rows.shape[0]):
        row = output + i if live.shape[1] > 1 else 0
        for j in range(rows.shape[1]):
            column = j // width if live.shape[2] > 1 else 0
            for k in range(rows.shape[2]):
                tap = k if live.shape[3] > 1 else 0
                live[layer, row, column, tap] |= rows[i, j, k]
