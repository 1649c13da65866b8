"""What the layers that can be pruned have in common."""

from __future__ import annotations

from torch import nn

from gpmt.core.layer_names import ATTENTION, RECURRENT
from gpmt.torch_private import ConvNd

LAYERS: tuple[tuple[tuple[type[nn.Module], ...], str], ...] = (
    ((ConvNd, nn.Linear, nn.Bilinear), "weight"),
    ((nn.MultiheadAttention,), ATTENTION),
    ((nn.RNNBase, nn.RNNCellBase), RECURRENT),
)
"""The classes of layers that are pruned, and a regular expression for the names of their weights."""

EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)
KNOWN = (*(layer for layers, _ in LAYERS for layer in layers), *EMBEDDINGS)


def output_dim(kind: str) -> int:
    """Return the dimension of a weight that counts the outputs, by the class of its layer.

    Outputs come first, but for two kinds of layers, whose weights are [inputs, outputs, ...]. Where a transposed
    convolution has groups, an output of its weight stands for one of each group.

    >>> output_dim("Conv2d"), output_dim("ConvTranspose2d")
    (0, 1)
    """
    return int(kind == "Conv1D" or kind.startswith("ConvTranspose"))
