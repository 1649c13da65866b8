"""Blocks: the layers that one tensor holds, such as the queries, keys and values of a fused projection.

A tensor is divided along some of its dimensions, each by a `Split`; a block is one part of every divided dimension,
and a view of the tensor. Tensors that hold one layer are one block.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpmt.errors import ScopeError

if TYPE_CHECKING:
    from torch import Tensor

MAX_BLOCKS = 1 << 16
"""Blocks in one tensor; more would be single rows, which are no layers."""


@dataclass(frozen=True)
class Split:
    """How one dimension of a tensor is divided.

    Attributes:
        dim: the dimension.
        parts: the length of each part.
        labels: the name of each part, such as q, k and v; empty for numbers from 0, such as those of experts.
        repeats: how many times the parts follow one another: the number of heads where each head has its own
            queries, keys and values, or half the length where rows of gate and up alternate.

    >>> Split(0, (4, 4, 4), ("q", "k", "v")).length
    12
    """

    dim: int
    parts: tuple[int, ...]
    labels: tuple[str, ...] = ()
    repeats: int = 1

    @property
    def length(self) -> int:
        """The length of the dimension."""
        return self.repeats * sum(self.parts)

    @classmethod
    def equal(cls, dim: int, length: int, labels: Sequence[str] | int, *, repeats: int = 1) -> Split:
        """Divide a dimension of a length into equal parts: one for each label, or as many as a number says.

        Raises `ScopeError` where the length is no multiple.

        >>> Split.equal(0, 12, ("q", "k", "v")).parts, Split.equal(0, 8, 4).parts
        ((4, 4, 4), (2, 2, 2, 2))
        """
        count, names = (labels, ()) if isinstance(labels, int) else (len(labels), tuple(labels))
        if count < 1 or length % (count * repeats):
            raise ScopeError(
                f"a dimension of {length:,} cannot be divided into {count:,} equal parts"
                + (f", {repeats:,} times" if repeats > 1 else "")
            )
        return cls(dim, (length // (count * repeats),) * count, names, repeats)


@dataclass(frozen=True)
class Blocks:
    """The blocks of one tensor: those of one split, or of several splits of different dimensions.

    >>> import torch
    >>> weight = torch.arange(24).view(6, 4)
    >>> blocks = Blocks((Split(0, (2, 2, 2), ("q", "k", "v")),))
    >>> blocks.names("attn.in_proj_weight")
    ['attn.in_proj_weight.q', 'attn.in_proj_weight.k', 'attn.in_proj_weight.v']
    >>> [view[0, 0].item() for view in blocks.views(weight)]
    [0, 8, 16]
    """

    splits: tuple[Split, ...]

    def __len__(self) -> int:
        count = 1
        for split in self.splits:
            count *= len(split.parts)
        return count

    def names(self, tensor: str) -> list[str]:
        """Return the name of each block: that of the tensor, and `.q` or `[17]` for each split.

        >>> Blocks((Split(0, (1, 1)), Split(1, (4, 4), ("gate", "up")))).names("experts.gate_up_proj")[-1]
        'experts.gate_up_proj[1].up'
        """
        labels = [
            [f".{label}" for label in split.labels] or [f"[{index}]" for index in range(len(split.parts))]
            for split in self.splits
        ]
        return [tensor + "".join(parts) for parts in itertools.product(*labels)]

    def shapes(self, shape: Sequence[int]) -> list[tuple[int, ...]]:
        """Return the shape of each block of a tensor, with as many dimensions as the tensor has.

        >>> Blocks((Split(0, (2, 1), repeats=4),)).shapes((12, 5))
        [(8, 5), (4, 5)]
        """
        found = []
        for parts in itertools.product(*(split.parts for split in self.splits)):
            sizes = list(shape)
            for split, length in zip(self.splits, parts, strict=True):
                sizes[split.dim] = split.repeats * length
            found.append(tuple(sizes))
        return found

    def views(self, tensor: Tensor) -> list[Tensor]:
        """Return the blocks of a tensor as views of it, without a copy; a dimension with repeats becomes two."""
        return list(self._divide(tensor, 0))

    def _divide(self, tensor: Tensor, index: int) -> Iterator[Tensor]:
        if index == len(self.splits):
            yield tensor
            return
        split = self.splits[index]
        # Dimensions before this one that have become two.
        dim = split.dim + sum(done.repeats > 1 and done.dim < split.dim for done in self.splits[:index])
        if split.repeats > 1:
            shape = tensor.shape
            sizes = (*shape[:dim], split.repeats, shape[dim] // split.repeats, *shape[dim + 1 :])
            tensor = tensor.view(sizes)  # of one dimension as two, which any strides allow
            dim += 1
        start = 0
        for length in split.parts:
            yield from self._divide(tensor.narrow(dim, start, length), index + 1)
            start += length

    def and_of(self, others: Blocks, shape: Sequence[int]) -> Blocks:
        """Return these blocks, divided further along dimensions that only the others divide, where the shape fits.

        >>> Blocks((Split(1, (4, 4)),)).and_of(Blocks((Split(0, (1, 1)), Split(1, (2, 2)))), (2, 8)).shapes((2, 8))
        [(1, 4), (1, 4), (1, 4), (1, 4)]
        """
        dims = {split.dim for split in self.splits}
        more = [
            split for split in others.splits if split.dim not in dims and split.length == shape[split.dim]
        ]
        return Blocks(tuple(sorted([*self.splits, *more], key=lambda split: split.dim)))

    def check(self, tensor: Tensor, name: str) -> None:
        """Raise `ScopeError` where the blocks are not those of this tensor."""
        self.check_shape(tuple(tensor.shape), name)

    def check_shape(self, shape: tuple[int, ...], name: str) -> None:
        """Raise `ScopeError` where the blocks are not those of a tensor of this shape."""
        for split in self.splits:
            if not 0 <= split.dim < len(shape) or split.length != shape[split.dim]:
                size = f"{shape[split.dim]:,}" if 0 <= split.dim < len(shape) else "none"
                raise ScopeError(
                    f"the blocks of {name} divide {split.length:,} elements of dimension {split.dim}, but its shape "
                    f"{list(shape)} has {size} there"
                )
            if split.repeats < 1 or min(split.parts) < 1:
                raise ScopeError(f"the blocks of {name} must have at least one element each")
            if split.labels and len(split.labels) != len(split.parts):
                raise ScopeError(
                    f"the blocks of {name} have {len(split.labels)} labels for {len(split.parts)} parts"
                )
        if len(self) > MAX_BLOCKS:
            raise ScopeError(
                f"{name} would be divided into {len(self):,} blocks; at most {MAX_BLOCKS:,} make sense"
            )


WHOLE = Blocks(())
"""A tensor that is one block."""

BlockRule = Sequence[str] | int | Split | Blocks | None
"""How a user divides a tensor: labels or a number of equal parts of its outputs, splits, or None for one block."""
