"""Dense weights packed for kernels that compute a block of filters at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpmt.arithmetic import ceil_div


def pack_filter_blocks(
    weight: NDArray[np.float32], bias: NDArray[np.float32], block: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return weights [blocks, taps, filters of a block] and bias [blocks, filters of a block].

    Args:
        weight: [filters, taps].
        bias: [filters].
        block: filters of a block; zeros fill the last one.
    """
    filters, taps = weight.shape
    blocks = ceil_div(filters, block)
    padded = np.zeros((blocks * block, taps), np.float32)
    padded[:filters] = weight
    biases = np.zeros(blocks * block, np.float32)
    biases[:filters] = bias
    packed = padded.reshape(blocks, block, taps).transpose(0, 2, 1)
    return np.ascontiguousarray(packed), biases.reshape(blocks, block)
