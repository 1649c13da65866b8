"""Which weights to prune, decided but not done."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

from gpmt.core.judgement import Judgement
from gpmt.core.minimums import Minimums
from gpmt.core.units import Unit
from gpmt.masks import Masks
from gpmt.planning.rows import BlockPlan, GroupPlan, TensorPlan
from gpmt.planning.shortage import shortages_of


class Plan:
    """Which weights to prune, decided but not done: counts per tensor and block, and `masks` on request.

    Attributes:
        tensors: a `TensorPlan` for every tensor of the scope, in the order of the network, with those of its blocks.
        groups: a `GroupPlan` for every group of blocks that shares a budget; one for the whole network by default.
        sparsity: the sparsity asked for, exact; of several groups the share that is pruned of all.
        numel, kept, pruned: weights in the scope, kept and pruned; pruned is floor(sparsity · numel) in every group.
        threshold: the magnitude of the smallest weight that the global ranking keeps; None where there is no
            global threshold, or more than one group.
        min_kept: the minimum threshold σ as a number of weights; None where it is not one number for every block.
        minimums: the minimum as it was asked for.
        allocation: how the total was shared among the blocks.
        seed: that of an allocation that draws at random.
        granularity: "weight", or what is pruned as one; then `numel`, `kept`, `pruned`, `min_kept` and those of
            `tensors` count these, and the threshold is a sum of magnitudes.
        unit: the values that are counted, such as "weights" or "columns".
        judged: what told which tensors are prunable: the network's layers, or only names and shapes.
        warnings: a sentence about blocks that are left with no weight, or a first or last layer with less
            than half as many weights as outputs, and what prevents it; another about blocks that were all zero
            before.
    """

    def __init__(
        self,
        tensors: Sequence[TensorPlan],
        groups: Sequence[GroupPlan],
        *,
        minimums: Minimums,
        allocation: str,
        unit: Unit,
        seed: int,
        aliases: Mapping[str, tuple[str, ...]],
        judged: Judgement,
        make: Callable[[], Masks] | None,
    ) -> None:
        self.tensors, self.groups = tuple(tensors), tuple(groups)
        self.minimums, self.min_kept, self.allocation = minimums, minimums.one, allocation
        self.granularity, self.unit, self.seed = unit.name, unit.plural, seed
        self.aliases, self.judged = aliases, judged
        self.numel = sum(row.numel for row in self.tensors)
        self.kept = sum(row.kept for row in self.tensors)
        self.pruned = self.numel - self.kept
        [first, *more] = self.groups
        self.sparsity = Fraction(self.pruned, self.numel) if more else first.sparsity
        self.threshold = None if more else first.threshold
        self.shortages = shortages_of(self.tensors, self.groups, unit)
        self.warnings = tuple(text for shortage in self.shortages for text in shortage.sentences())
        # Released when the masks are made, with the weights that it holds.
        self._make = make
        self._masks: Masks | None = None

    @property
    def blocks(self) -> tuple[BlockPlan, ...]:
        """The plan for every block, in the order of the network."""
        return tuple(block for row in self.tensors for block in row.blocks)

    def masks(self) -> Masks:
        """Return the masks; the first call computes them, with one pass over the weights.

        Raises `WeightsError` where the weights have changed between planning and this first call.
        """
        if self._masks is None and self._make is not None:
            self._masks = self._make()
            self._make = None
        assert self._masks is not None
        return self._masks

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as plain values, ready for JSON."""
        return {
            "sparsity": float(self.sparsity),
            "achieved_sparsity": self.pruned / self.numel,
            "granularity": self.granularity,
            self.unit: self.numel,
            "kept": self.kept,
            "pruned": self.pruned,
            "threshold": self.threshold,
            "min_kept": str(self.minimums) if self.min_kept is None else self.min_kept,
            "groups": [group.to_dict(unit=self.unit) for group in self.groups],
            "allocation": self.allocation,
            "scope": self.judged.to_dict(),
            "warnings": list(self.warnings),
            "tensors": [
                row.to_dict(unit=self.unit) | {"aliases": list(self.aliases.get(row.name, ()))}
                for row in self.tensors
            ],
        }

    def __str__(self) -> str:
        """Draw a table with one line a tensor; a floor that binds is marked with an asterisk.

        Below it is said where only names and shapes told what can be pruned.
        """
        rows = [("tensor", "shape", self.unit, "kept", "density")]
        for row in self.tensors:
            shape = "×".join(map(str, row.shape))
            mark = "*" if row.binds else " "
            rows.append((row.name, shape, f"{row.numel:,}", f"{row.kept:,}{mark}", f"{row.density:8.3%}"))
        rows.append(("total", "", f"{self.numel:,}", f"{self.kept:,} ", f"{self.kept / self.numel:8.3%}"))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(
                [
                    *(c.ljust(w) for c, w in zip(cells[:2], widths[:2], strict=True)),
                    *(c.rjust(w) for c, w in zip(cells[2:], widths[2:], strict=True)),
                ]
            )
            for cells in rows
        ]
        lines.append(self.summary())
        if self.judged.by == "names":
            lines.append(str(self.judged))
        return "\n".join(lines)

    def summary(self) -> str:
        """Return the totals as one sentence."""
        text = f"{self.pruned:,} of {self.numel:,} {self.unit} pruned ({self.pruned / self.numel:.4%})"
        if self.threshold is not None:
            text += f", global threshold {self.threshold:.6g}"
        if self.minimums:
            binding, blocks = sum(block.binds for block in self.blocks), len(self.blocks)
            each = "tensor" if blocks == len(self.tensors) else "block"
            text += f"; minimum {self.minimums} a {each}, which binds in {binding} of {blocks} (*)"
        return text

    def __repr__(self) -> str:
        return f"<Plan: {self.summary()}>"
