"""The rows of a plan: blocks, tensors and groups, with their counts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from gpmt.core.blocks.blocks import WHOLE, Blocks
from gpmt.core.layers.axes import PLAIN, Axes
from gpmt.core.selection.select import Cut


@dataclass(frozen=True)
class BlockPlan:
    """The plan for one block, in weights, or in what the plan prunes as one.

    `floor` is the number that it keeps at least; `binds` is true where the floor decided how many it keeps, and
    `zero` where all of it was zero before. `cut` is where its ranking is cut, None where only the count is known.
    """

    name: str
    shape: tuple[int, ...]
    numel: int
    kept: int
    floor: int
    binds: bool
    zero: bool = False
    cut: Cut | None = None

    @property
    def pruned(self) -> int:
        """Number pruned."""
        return self.numel - self.kept

    @property
    def density(self) -> float:
        """Fraction kept."""
        return _density(self.kept, self.numel)

    def to_dict(self, *, unit: str = "weights") -> dict[str, Any]:
        """Return the plan as plain values, ready for JSON; `unit` names the values that are counted."""
        return {"name": self.name, **_counts(self, unit)}


class _OfBlocks:
    """Counts that are the sums over blocks."""

    blocks: tuple[BlockPlan, ...]

    @property
    def numel(self) -> int:
        """Number of weights."""
        return sum(block.numel for block in self.blocks)

    @property
    def kept(self) -> int:
        """Number kept."""
        return sum(block.kept for block in self.blocks)

    @property
    def pruned(self) -> int:
        """Number pruned."""
        return self.numel - self.kept

    @property
    def density(self) -> float:
        """Fraction kept."""
        return _density(self.kept, self.numel)


@dataclass(frozen=True)
class TensorPlan(_OfBlocks):
    """The plan for one tensor, and for each of its blocks; `kind` is the class of its layer.

    The counts are the sums over its blocks; a floor binds in it where it does in a block. `divided` is how it
    divides into them, `end` is "first" or "last" for the first and the last layer of the network, and `axes` which
    of its dimensions count its outputs and inputs.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    blocks: tuple[BlockPlan, ...]
    dtype: str = "float32"
    divided: Blocks = WHOLE
    end: str | None = None
    axes: Axes = PLAIN

    @property
    def weights(self) -> int:
        """Number of weights, whatever is counted."""
        return math.prod(self.shape)

    @property
    def floor(self) -> int:
        """Number kept at least."""
        return sum(block.floor for block in self.blocks)

    @property
    def binds(self) -> bool:
        """Whether the floor decided in any of its blocks."""
        return any(block.binds for block in self.blocks)

    def to_dict(self, *, unit: str = "weights") -> dict[str, Any]:
        """Return the plan as plain values, ready for JSON; blocks are told where there are several."""
        document = {"name": self.name, "kind": self.kind, **_counts(self, unit)}
        if len(self.blocks) > 1:
            document["blocks"] = [block.to_dict(unit=unit) for block in self.blocks]
        return document


@dataclass(frozen=True)
class GroupPlan(_OfBlocks):
    """The plan for the blocks that share a budget.

    `label` is what they have in common, a pattern or the name of their tensor, None for the whole network;
    `threshold` is the magnitude of the smallest weight that their ranking keeps, None where floors or another
    allocation decide.
    """

    label: str | None
    sparsity: Fraction
    blocks: tuple[BlockPlan, ...]
    threshold: float | None

    @property
    def of(self) -> str:
        """Name the group in a sentence."""
        return "" if self.label is None else f" of {self.label}"

    def with_blocks(self, blocks: Sequence[BlockPlan]) -> GroupPlan:
        """Return the group with other counts of its blocks.

        Where these changed, it has no threshold, and another sparsity if its total is another.
        """
        if [block.kept for block in blocks] == [block.kept for block in self.blocks]:
            return replace(self, blocks=tuple(blocks))
        pruned, numel = sum(block.pruned for block in blocks), sum(block.numel for block in blocks)
        sparsity = self.sparsity if pruned == self.pruned else Fraction(pruned, numel)
        return GroupPlan(self.label, sparsity, tuple(blocks), None)

    def to_dict(self, *, unit: str = "weights") -> dict[str, Any]:
        """Return the plan as plain values, ready for JSON."""
        return {
            "group": self.label,
            "sparsity": float(self.sparsity),
            "blocks": len(self.blocks),
            unit: self.numel,
            "kept": self.kept,
            "threshold": self.threshold,
        }


def _counts(row: BlockPlan | TensorPlan, unit: str) -> dict[str, Any]:
    return {
        "shape": list(row.shape),
        unit: row.numel,
        "kept": row.kept,
        "density": row.density,
        "floor": row.floor,
        "binds": row.binds,
    }


def _density(kept: int, numel: int) -> float:
    return kept / numel if numel else 1.0
