"""What was measured: the loss and the accuracy of a network with one block pruned, for every block and sparsity."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal, Unpack

from torch import Tensor, nn

from gpmt.core.budget.budget import Ratio
from gpmt.errors import CalibrationError
from gpmt.planning.options import PlanOptions
from gpmt.planning.plan import Plan

if TYPE_CHECKING:
    from gpmt.report.figures.paper_figure import PaperFigure

Metric = Literal["top1", "loss"]


@dataclass(frozen=True)
class Measured:
    """Mean loss, and the fraction of samples whose class is the most likely one; None where there are no classes."""

    loss: float
    top1: float | None


@dataclass(frozen=True)
class Cell(Measured):
    """What the network is like with one block pruned.

    `sparsity` is what was asked for, `kept` the number of weights that stay in the block.
    """

    sparsity: Fraction
    kept: int


@dataclass(frozen=True)
class BlockCurve:
    """The cells of one block, by rising sparsity; `numel` is the number of its weights."""

    name: str
    numel: int
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Sensitivity:
    """How much each block of a network can be pruned alone; ``str()`` is a table.

    Attributes:
        dense: the network before any pruning, measured as the cells are: recalibrated where these are.
        curves: the blocks measured so far, in the order of the network.
        blocks: the names of all blocks that are to be measured.
        sparsities: those measured, rising.
        numel: prunable weights of the whole scope, measured or not.
        samples: how many samples the loss is the mean of.
        recalibrated: whether the statistics of batch normalisation were measured again in each cell.
        network: SHA-256 of all parameters and buffers.
        settings: how the command line names the data and the network; empty for others.
    """

    dense: Measured
    curves: tuple[BlockCurve, ...]
    blocks: tuple[str, ...]
    sparsities: tuple[Fraction, ...]
    numel: int
    samples: int
    recalibrated: bool
    network: str
    settings: Mapping[str, str | int | None] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether all blocks are measured."""
        return len(self.curves) == len(self.blocks)

    @property
    def metric(self) -> Metric:
        """What is shown where nothing else is asked for: the accuracy where there is one."""
        return "loss" if self.dense.top1 is None else "top1"

    def value(self, measured: Measured, metric: Metric | None = None) -> float:
        """Return the loss or the accuracy of a cell. Raises `CalibrationError` where there is no accuracy."""
        value = measured.loss if (metric or self.metric) == "loss" else measured.top1
        if value is None:
            raise CalibrationError(
                'the metric is "top1", but the data have no classes to be right about; use "loss"'
            )
        return value

    def suggest(
        self,
        target: nn.Module | Mapping[str, Tensor],
        sparsity: Ratio,
        **options: Unpack[PlanOptions],
    ) -> Plan:
        """Return the plan that has the smallest sum of the losses measured, at exactly this sparsity.

        Each block loses as many weights, its smallest, as make the sum over all blocks of how much the loss rises
        smallest; between two sparsities measured the loss is taken to be on a line, and that of each block to be
        convex. This assumes that losses add, which holds less, the more is pruned: measure the plan before it is
        trusted. No block is pruned beyond the highest sparsity measured, and those not measured stay dense.

        Args:
            target: the network that was measured, or its state_dict.
            sparsity: fraction of the prunable weights of the scope, exact.
            options: min_kept, and scope, exclude and blocks as they were when it was measured.

        Raises:
            BudgetError: a sparsity that the blocks cannot reach with their minimums and what was measured.
            CalibrationError: another network than was measured, or blocks that are not measured yet.
        """
        from gpmt.sensitivities.suggest import suggest

        return suggest(self, target, sparsity, **options)

    def figure(
        self, metric: Metric | None = None, *, plan: Plan | None = None, width: str | float = "column"
    ) -> PaperFigure:
        """Draw a line for each block and a field for each sparsity (Matplotlib, of the extra "report").

        Args:
            metric: "top1" or "loss"; by default `metric`.
            plan: one whose share of each block is drawn beside it, such as `suggest` returns.
            width: "column" (8.5 cm), "page" (17.5 cm), or cm.

        Raises `FigureError` where no block is measured, and where Matplotlib is missing.
        """
        from gpmt.sensitivities.drawing import draw

        return draw(self, metric or self.metric, plan, width)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it as JSON, in full or not at all. Raises `CheckpointError` where the file cannot be written."""
        from gpmt.sensitivities.document import save

        save(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Sensitivity:
        """Read what `save` wrote. Raises `CheckpointError` for a file that is missing, damaged or something else."""
        from gpmt.sensitivities.document import load

        return load(path)

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values, ready for JSON; accuracies are fractions."""
        return {
            "samples": self.samples,
            "recalibrated": self.recalibrated,
            "sparsities": [str(sparsity) for sparsity in self.sparsities],
            "weights": self.numel,
            "network": self.network,
            "settings": dict(self.settings),
            "dense": asdict(self.dense),
            "blocks": list(self.blocks),
            "curves": [
                {
                    "name": curve.name,
                    "weights": curve.numel,
                    "cells": [asdict(cell) | {"sparsity": str(cell.sparsity)} for cell in curve.cells],
                }
                for curve in self.curves
            ],
        }

    def table(self, metric: Metric | None = None) -> list[list[str]]:
        """Return the header and the lines of a table: a block, its weights, the metric at each sparsity."""
        lines = [["block", "weights", *(f"{100 * float(sparsity):g}%" for sparsity in self.sparsities)]]
        for curve in self.curves:
            values = [self.shown(cell, metric) for cell in curve.cells]
            lines.append([curve.name, f"{curve.numel:,}", *values])
        return lines

    def shown(self, measured: Measured, metric: Metric | None = None) -> str:
        """Format the loss or the accuracy of a cell."""
        value = self.value(measured, metric)
        return f"{value:.3f}" if (metric or self.metric) == "loss" else f"{value:.1%}"

    def __str__(self) -> str:
        rows = self.table()
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
            for row in rows
        ]
        return "\n".join([*lines, self.summary()])

    def summary(self, metric: Metric | None = None) -> str:
        """Say in a sentence what the numbers are."""
        what = "loss" if (metric or self.metric) == "loss" else "top-1"
        text = f"{what} on {self.samples:,} samples with one block pruned; {self.shown(self.dense, metric)} dense"
        if self.recalibrated:
            text += ", batch normalisation recalibrated"
        missing = len(self.blocks) - len(self.curves)
        return f"{text}; {missing:,} of {len(self.blocks):,} blocks still to be measured" if missing else text
