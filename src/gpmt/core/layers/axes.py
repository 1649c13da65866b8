"""Which dimensions of a weight count the outputs of a layer, and which its inputs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from gpmt.core.layers.layers import output_dim


@dataclass(frozen=True)
class Axes:
    """What the dimensions of a weight count.

    A weight is arranged as [layers, outputs, inputs, taps]: there is one layer unless the tensor holds a stack of
    experts, and one tap but for the windows of convolutions (and the second inputs of `Bilinear`). Where a
    convolution has groups, an input of its weight stands for one of each group; of a transposed one, an output.

    Attributes:
        output: the dimension that counts the outputs.
        stacked: whether the first dimension counts layers.
        told: whether it is known which dimension counts the outputs; otherwise `output` means nothing.
    """

    output: int = 0
    stacked: bool = False
    told: bool = True

    def arrange(self, weight: Tensor) -> Tensor:
        """Return a weight of two or more dimensions as [layers, outputs, inputs, taps]; a view where strides allow.

        >>> import torch
        >>> Axes(1).arrange(torch.zeros(2, 3, 5, 5)).shape
        torch.Size([1, 3, 2, 25])
        """
        if not self.stacked:
            weight = weight.unsqueeze(0)
        if self.outputs_second:
            weight = weight.transpose(1, 2)
        return weight.unsqueeze(3) if weight.ndim == 3 else weight.flatten(3)

    def sizes(self, shape: Sequence[int]) -> tuple[int, int, int, int]:
        """Return the number of layers, outputs, inputs and taps of a weight of a shape.

        >>> Axes(2, stacked=True).sizes((8, 3, 4))
        (8, 4, 3, 1)
        """
        layers, *sizes = shape if self.stacked else (1, *shape)
        if self.outputs_second:
            sizes[:2] = sizes[1], sizes[0]
        taps = 1
        for size in sizes[2:]:
            taps *= size
        return layers, sizes[0], sizes[1], taps

    @property
    def outputs_second(self) -> bool:
        """Whether outputs come after inputs."""
        return self.output == 1 + self.stacked


PLAIN = Axes()
"""Outputs first, as most layers have them."""


def find_axes(
    name: str, kind: str, shape: Sequence[int], owner: nn.Module | None, beside: Mapping[str, Tensor]
) -> Axes:
    """Return what the dimensions of a weight count, by its module, or by its name and what lies beside it.

    Args:
        name: its name.
        kind: the class of its layer.
        shape: its shape.
        owner: its module; None where it is not known.
        beside: all weights by name.
    """
    parent, _, attribute = name.rpartition(".")
    if kind == "CondConv2d":  # of timm: a row holds a whole kernel
        return Axes(told=False)
    if kind == "DbrxExpertGLU" or parent.endswith("experts.mlp"):
        return Axes(output=int(attribute == "w2"))
    if len(shape) != 3 or not (kind == "experts" or kind.endswith("Experts")):
        return Axes(output_dim(kind))
    transposed = getattr(owner, "is_transposed", None)  # of transformers, `use_experts_implementation`
    if transposed is None:
        transposed = _by_shapes(parent, shape, beside)
    if transposed is None and attribute == "weight" and re.fullmatch(r"\w*ParallelExperts", kind):
        transposed = False
    return Axes(1 if transposed is None else 1 + transposed, stacked=True, told=transposed is not None)


def _by_shapes(parent: str, shape: Sequence[int], beside: Mapping[str, Tensor]) -> bool | None:
    """Return whether a stack of gates and ups has its outputs last, by its shape and that of the stack after it."""
    prefix = f"{parent}." if parent else ""
    first, last = beside.get(f"{prefix}gate_up_proj"), beside.get(f"{prefix}down_proj")
    if first is None or last is None or first.ndim != 3 or last.ndim != 3:
        return None
    before, after = tuple(first.shape[1:]), tuple(last.shape[1:])
    if before == (2 * after[1], after[0]):
        return False
    return True if before == (after[1], 2 * after[0]) else None
