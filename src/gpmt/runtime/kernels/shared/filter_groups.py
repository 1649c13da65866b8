"""Filters in groups: dense weights packed for those computed at once, and parts of about equal work."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpmt.arithmetic import ceil_div


def pack_filter_groups(
    weight: NDArray[np.float32], bias: NDArray[np.float32], group: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return weights [groups, taps, filters of a group] and bias [groups, filters of a group].

    Args:
        weight: [filters, taps].
        bias: [filters].
        group: filters of a group; zeros fill the last one.
    """
    filters, taps = weight.shape
    groups = ceil_div(filters, group)
    padded = np.zeros((groups * group, taps), np.float32)
    padded[:filters] = weight
    biases = np.zeros(groups * group, np.float32)
    biases[:filters] = bias
    packed = padded.reshape(groups, group, taps).transpose(0, 2, 1)
    return np.ascontiguousarray(packed), biases.reshape(groups, group)


def balanced_parts(weights: NDArray[np.int64], parts: int) -> NDArray[np.int64]:
    """Return the part of each filter [filters], given their numbers of weights, so that parts have about equal work.

    The filters are dealt from the heaviest on to the parts 0, 1, ..., parts - 1, parts - 1, ..., 1, 0, 0, 1, ...
    """
    turn = np.arange(len(weights)) % (2 * parts)
    part = np.empty(len(weights), np.int64)
    part[np.argsort(-weights, kind="stable")] = np.where(turn < parts, turn, 2 * parts - 1 - turn)
    return part
