"""Dense weights packed for kernels that compute a group of filters at once."""

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
