"""Which outputs and inputs of a tensor have any weight that is not zero."""

from __future__ import annotations

import torch
from torch import Tensor

from gpmt.core.layers.axes import Axes
from gpmt.report.content.subject import ChannelMap

_AT_A_TIME = 1 << 24
"""Weights counted at a time, so that memory does not grow with the tensor."""


@torch.no_grad()
def channel_map(name: str, tensor: Tensor, axes: Axes) -> ChannelMap:
    """Count the weights of each output and input that are not zero.

    Of a stack of layers, such as experts, the outputs and inputs of all layers follow one another.

    Args:
        name: of the tensor.
        tensor: two or more dimensions, floating.
        axes: which of its dimensions count outputs and inputs.

    >>> channel_map("fc", torch.tensor([[0.0, 1, 2], [0, 0, 0]]), Axes())
    ChannelMap(tensor='fc', kept_by_output=(2, 0), kept_by_input=(0, 1, 1))
    """
    arranged = axes.arrange(tensor.detach())
    layers, outputs, inputs, _ = arranged.shape
    step = max(1, _AT_A_TIME * outputs // max(1, arranged.numel()))
    by_input = torch.zeros(layers, inputs, dtype=torch.int64, device="cpu")
    by_output = []
    for piece in torch.split(arranged, step, dim=1):
        taps = piece.ne(0).sum(3, dtype=torch.int32)
        by_output.append(taps.sum(2))
        by_input += taps.sum(1)
    counts = torch.cat(by_output, dim=1) if by_output else torch.zeros(0, device="cpu")
    return ChannelMap(name, tuple(counts.flatten().tolist()), tuple(by_input.flatten().tolist()))
