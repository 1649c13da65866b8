"""How much each block of a network can be pruned alone, as a figure shows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class BlockSensitivity:
    """One block: what was measured with it pruned to each sparsity, and the share that a plan keeps of it, if any."""

    name: str
    numel: int
    values: tuple[float, ...]
    density: float | None = None


@dataclass(frozen=True)
class SensitivityTable:
    """All blocks.

    Attributes:
        metric: what the values are: accuracies as fractions, or losses.
        dense: that of the network before pruning.
        sparsities: as fractions, rising; a value of each block for each.
        samples: what they are measured on.
        blocks: in the order of the network.
    """

    metric: Literal["top1", "loss"]
    dense: float
    sparsities: tuple[float, ...]
    samples: int
    blocks: Sequence[BlockSensitivity]

    @property
    def worst(self) -> float:
        """The worst value of all blocks."""
        values = [value for block in self.blocks for value in block.values]
        return max(values) if self.metric == "loss" else min(values)

    def costs(self) -> list[list[float]]:
        """Return how much worse than dense each value of each block is, as a share of the worst; 0 where better."""
        most = abs(self.worst - self.dense) or 1.0
        sign = 1 if self.metric == "loss" else -1
        return [
            [max(0.0, sign * (value - self.dense)) / most for value in block.values] for block in self.blocks
        ]
