"""What the layers that can be pruned have in common."""

from __future__ import annotations


def output_dim(kind: str) -> int:
    """Return the dimension of a weight that counts the outputs, by the class of its layer.

    Outputs come first, but for two kinds of layers, whose weights are [inputs, outputs, ...]. Where a transposed
    convolution has groups, an output of its weight stands for one of each group.

    >>> output_dim("Conv2d"), output_dim("ConvTranspose2d")
    (0, 1)
    """
    return int(kind == "Conv1D" or kind.startswith("ConvTranspose"))
