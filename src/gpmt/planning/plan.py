"""Which weights to prune, decided but not done."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from statistics import median
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from gpmt.core.budget.minimums import Minimums
from gpmt.core.scope.coverage import Coverage
from gpmt.core.scope.judgement import Judgement
from gpmt.core.units.registry import unit_of
from gpmt.core.units.unit import Unit
from gpmt.errors import PlanError
from gpmt.masks import Masks
from gpmt.planning.macs_budget import MacsPlan
from gpmt.planning.mask_maker import MaskMaker
from gpmt.planning.rows import BlockPlan, GroupPlan, TensorPlan
from gpmt.planning.shortage import shortages_of

if TYPE_CHECKING:
    from gpmt.report.figures.paper_figure import PaperFigure


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
        within: "network"; "tensor" where every tensor has a threshold of its own; "row" where every row keeps its
            share.
        pattern: the pattern N:M, such as "2:4"; None without one.
        scored: scores ranked the weights in place of their magnitudes; the threshold is then a score.
        macs: what a budget in multiply-accumulates has come to; None where none was asked for.
        judged: what told which tensors are prunable: the network's layers, or only names and shapes.
        coverage: how much of the network's weights the scope holds, and what lies outside.
        notes: what is to be known of a plan that was applied to other weights than it was made of.
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
        within: str,
        aliases: Mapping[str, tuple[str, ...]],
        judged: Judgement,
        coverage: Coverage,
        pattern: str | None = None,
        scored: bool = False,
        macs: MacsPlan | None = None,
        make: MaskMaker | None,
        notes: Sequence[str] = (),
    ) -> None:
        self.tensors, self.groups = tuple(tensors), tuple(groups)
        self.minimums, self.min_kept, self.allocation = minimums, minimums.one, allocation
        self.granularity, self.unit, self.seed, self.within = unit.name, unit.plural, seed, within
        self.aliases, self.judged, self.coverage, self.notes = aliases, judged, coverage, tuple(notes)
        self.scored, self.macs, self.pattern = scored, macs, pattern
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

    @property
    def network_sparsity(self) -> float:
        """The share of all weights of the network that is pruned, those outside the scope included."""
        pruned = sum(math.prod(row.shape) * row.pruned // row.numel for row in self.blocks if row.numel)
        return self.coverage.whole_sparsity(pruned)

    def masks(self, target: nn.Module | Mapping[str, Tensor] | None = None) -> Masks:
        """Return the masks; the first call computes them, with one pass over the weights.

        Args:
            target: the network or state_dict whose weights are ranked, for a plan that was loaded or edited; a plan
                that `gpmt.plan` made knows its own.

        Raises:
            PlanError: the plan knows no weights and is given none, or does not fit the target.
            WeightsError: the weights have changed between planning and this first call.
        """
        if target is not None:
            return self.bound(target).masks()
        if self._masks is None:
            self._masks = self._maker().masks()
            self._make = None
        return self._masks

    def _maker(self) -> MaskMaker:
        if self._make is None:
            raise PlanError(
                "this plan was loaded or edited, so it knows no weights to rank; give the network, as in "
                "plan.masks(model), or prune it with gpmt.prune_(model, plan=plan)"
            )
        return self._make

    def mask_bits(self, tensor: str) -> Tensor:
        """Return the packed mask of one tensor, without making those of the others.

        Args:
            tensor: its name, one of `tensors`.

        Returns:
            uint8 [ceil(numel / 8)] on the CPU: bit i % 8 of byte i // 8 is set where weight i, in flat order, stays.

        Raises:
            PlanError: the plan knows no weights, as it was loaded or edited.
            WeightsError: the weights have changed since they were planned.
        """
        if self._masks is not None:
            return self._masks.packed(tensor)
        return self._maker().bits(tensor)

    def apply_(self, target: nn.Module | Mapping[str, Tensor]) -> None:
        """Set the pruned weights of a module or state_dict to +0.0, in place, as ``masks().apply_(target)`` does.

        Of contiguous weights on the CPU that were planned as they are, one pass does both. Raises what `masks` and
        `Masks.apply_` raise.
        """
        made = self._make.prune_(target) if self._masks is None and self._make is not None else None
        if made is None:
            self.masks().apply_(target)
        else:
            self._masks, self._make = made, None

    def bound(self, target: nn.Module | Mapping[str, Tensor]) -> Plan:
        """Return this plan for the weights of a network or state_dict: each block keeps as many, the largest first.

        Raises `PlanError` where tensors are missing or of another shape or dtype, and `WeightsError` for weights that
        cannot be ranked. Weights with other values are allowed, which `notes` then tells.
        """
        from gpmt.planning.binding import bind

        return bind(self, target)

    def with_kept(self, kept: Mapping[str, int | str]) -> Plan:
        """Return a plan in which some blocks keep exactly so many weights, the largest first, the others as before.

        The totals follow. The new plan knows no weights; give them to `masks`, or to `gpmt.prune_`.

        Args:
            kept: pattern of blocks or tensors -> the number of weights that each of them keeps, or a share such as
                "5%", rounded up. The first pattern that matches a block decides.

        Raises:
            PlanError: a number that a block cannot keep.
            BudgetError: a pattern that matches nothing, or that earlier ones leave nothing.

        >>> import torch, gpmt
        >>> weights = {"a.weight": torch.arange(1.0, 11).view(2, 5), "b.weight": torch.arange(1.0, 11).view(2, 5)}
        >>> plan = gpmt.plan(weights, sparsity=0.5).with_kept({"a.*": 2, "b.weight": "80%"})
        >>> [row.kept for row in plan.tensors], plan.pruned, plan.masks(weights).total_kept
        ([2, 8], 10, 10)
        """
        from gpmt.planning.editing import with_kept

        return with_kept(self, kept)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the plan as JSON (docs/plans.md), in full or not at all: counts per block, not masks.

        Raises `CheckpointError` where the file cannot be written, `PlanError` for a plan that scores have ranked.
        """
        from gpmt.planning.document import save

        save(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Plan:
        """Read a plan that `save` wrote, and that may have been edited since.

        Raises `PlanError` for a file that is missing, damaged or of another version, and for counts that do not add
        up to the totals in it.
        """
        from gpmt.planning.document import load

        return load(path)

    def replaced(
        self,
        blocks: Sequence[BlockPlan],
        *,
        make: MaskMaker | None = None,
        notes: Sequence[str] = (),
    ) -> Plan:
        """Return the same plan with other rows for its blocks, in their order; the totals follow."""
        new = {id(row): block for row, block in zip(self.blocks, blocks, strict=True)}
        tensors = [replace(row, blocks=tuple(new[id(block)] for block in row.blocks)) for row in self.tensors]
        groups = [group.with_blocks([new[id(block)] for block in group.blocks]) for group in self.groups]
        return Plan(
            tensors,
            groups,
            minimums=self.minimums,
            allocation=self.allocation,
            unit=unit_of(self.granularity),
            seed=self.seed,
            within=self.within,
            pattern=self.pattern,
            aliases=self.aliases,
            judged=self.judged,
            coverage=self.coverage,
            scored=self.scored,
            make=make,
            notes=notes,
        )

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
            "within": self.within,
            "pattern": self.pattern,
            "ranked_by": "scores" if self.scored else "magnitude",
            "macs": None if self.macs is None else self.macs.to_dict(),
            "scope": self.judged.to_dict(),
            "coverage": self.coverage.to_dict(),
            "network_sparsity": self.network_sparsity,
            "notes": list(self.notes),
            "warnings": list(self.warnings),
            "tensors": [
                row.to_dict(unit=self.unit) | {"aliases": list(self.aliases.get(row.name, ()))}
                for row in self.tensors
            ],
        }

    def __str__(self) -> str:
        """Draw a table with one line a tensor; a floor that binds is marked with an asterisk.

        Of a tensor with several blocks, it tells how many, and the smallest and the median density among them. Below
        it is said what lies outside the scope, and where only names and shapes told what can be pruned.
        """
        divided = any(len(row.blocks) > 1 for row in self.tensors)
        rows = [["tensor", "shape", self.unit, "kept", "density"]]
        if divided:
            rows[0] += ["blocks", "least", "median"]
        for row in self.tensors:
            shape = "×".join(map(str, row.shape))
            mark = "*" if row.binds else " "
            cells = [row.name, shape, f"{row.numel:,}", f"{row.kept:,}{mark}", f"{row.density:8.3%}"]
            if len(row.blocks) > 1:
                densities = [block.density for block in row.blocks]
                cells += [f"{len(densities):,}", f"{min(densities):.3%}", f"{median(densities):.3%}"]
            rows.append(cells + [""] * (len(rows[0]) - len(cells)))
        total = ["total", "", f"{self.numel:,}", f"{self.kept:,} ", f"{self.kept / self.numel:8.3%}"]
        rows.append(total + [""] * (len(rows[0]) - len(total)))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(
                [
                    *(c.ljust(w) for c, w in zip(cells[:2], widths[:2], strict=True)),
                    *(c.rjust(w) for c, w in zip(cells[2:], widths[2:], strict=True)),
                ]
            ).rstrip()
            for cells in rows
        ]
        lines.append(self.summary())
        if not self.coverage.complete:
            lines += self.coverage.lines()
        if self.judged.by == "names":
            lines.append(str(self.judged))
        return "\n".join(lines)

    def summary(self) -> str:
        """Return the totals as one sentence."""
        text = f"{self.pruned:,} of {self.numel:,} {self.unit} pruned ({self.pruned / self.numel:.4%})"
        if not self.coverage.complete:
            text += f", {self.network_sparsity:.4%} of the whole network"
        if self.threshold is not None:
            text += f", global threshold {self.threshold:.6g}"
        if self.pattern is not None:
            text += f", {self.pattern} of the inputs of every output"
        if self.within == "row":
            text += ", the same share of every row"
        if self.minimums and self.within == "row":
            text += f"; minimum {self.minimums} a row"
        elif self.minimums:
            binding, blocks = sum(block.binds for block in self.blocks), len(self.blocks)
            each = "tensor" if blocks == len(self.tensors) else "block"
            minimum = str(self.minimums) if self.min_kept is None else f"{self.minimums} a {each}"
            text += f"; minimum {minimum}, which binds in {binding} of {blocks} (*)"
        return text if self.macs is None else f"{text}; {self.macs}"

    def __repr__(self) -> str:
        return f"<Plan: {self.summary()}>"

    def figure(self, *, width: str | float = "column", title: str = "") -> PaperFigure:
        """Draw the density of every block, with the floors and where they decide; a notebook shows the figure.

        Args:
            width: "column" of a paper (8.5 cm), "page" (17.5 cm), or cm.
            title: above the figure.

        Returns:
            A Matplotlib figure; ``savefig("density.pdf")`` writes it.

        Raises `FigureError` for another width, and where Matplotlib is not installed.
        """
        from gpmt.planning.picture import figure_of

        return figure_of(self, width=width, title=title)

    def _repr_html_(self) -> str:
        from gpmt.planning.picture import html_of

        return html_of(self)
