"""Which weights to prune, decided but not done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from gpmt.arithmetic import ceil_div
from gpmt.core.budget import floor_of
from gpmt.core.keys import KeyFormat, KeySource, is_all_zero, key_value
from gpmt.core.layers import output_dim
from gpmt.core.scope import Scope
from gpmt.core.select import Selection
from gpmt.core.structure import Granularity, counted, spread
from gpmt.masks import Masks
from gpmt.planning.packing import MaskPacker
from gpmt.planning.shortage import Shortage


@dataclass(frozen=True)
class TensorPlan:
    """The plan for one tensor, in weights, or in columns where the plan prunes these.

    `floor` is the number that it keeps at least; `binds` is true where the floor decided how many it keeps. `kind`
    is the class of its layer.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    numel: int
    kept: int
    floor: int
    binds: bool

    @property
    def pruned(self) -> int:
        """Number pruned."""
        return self.numel - self.kept

    @property
    def density(self) -> float:
        """Fraction kept."""
        return self.kept / self.numel if self.numel else 1.0


class Plan:
    """Which weights to prune, decided but not done: counts per tensor, and `masks` on request.

    Attributes:
        tensors: a `TensorPlan` for every tensor of the scope, in the order of the network.
        sparsity: the sparsity asked for, exact.
        numel, kept, pruned: weights in the scope, kept and pruned; pruned is floor(sparsity · numel).
        threshold: the magnitude of the smallest weight that the global ranking keeps; None where there is no
            global threshold.
        min_kept: the minimum threshold σ as a number of weights.
        allocation: how the total was shared among the tensors.
        granularity: "weight", or "column"; then `numel`, `kept`, `pruned`, `min_kept` and those of `tensors`
            count columns, and the threshold is a sum of magnitudes.
        unit: the values that are counted, "weights" or "columns".
        judged: what told which tensors are prunable: the network's layers, or only names and shapes.
        warnings: a sentence about tensors that are left with no weight, or a first or last layer with less
            than half as many weights as outputs, and what prevents it; another about tensors that
            were all zero before.
    """

    def __init__(
        self,
        scope: Scope,
        sources: Sequence[KeySource],
        key_format: KeyFormat,
        selection: Selection,
        *,
        sparsity: Fraction,
        min_kept: int,
        allocation: str,
        granularity: Granularity,
        has_threshold: bool,
    ) -> None:
        self.sparsity, self.min_kept, self.allocation = sparsity, min_kept, allocation
        self.granularity, self.unit = granularity, counted(granularity)
        self.tensors = tuple(
            TensorPlan(
                name=name,
                kind=scope.kinds[name],
                shape=tuple(tensor.shape),
                numel=source.numel,
                kept=cut.kept,
                floor=floor_of(source.numel, min_kept),
                binds=cut.binds,
            )
            for (name, tensor), source, cut in zip(
                scope.tensors.items(), sources, selection.cuts, strict=True
            )
        )
        self.numel = sum(row.numel for row in self.tensors)
        self.kept = sum(row.kept for row in self.tensors)
        self.pruned = self.numel - self.kept
        self.shortage = Shortage(
            sizes={row.name: row.numel for row in self.tensors},
            kept={row.name: row.kept for row in self.tensors},
            ends=scope.ends,
            outputs={
                row.name: row.shape[output_dim(row.kind)] for row in self.tensors if row.name in scope.ends
            },
            needs={row.name: self._need(row) for row in self.tensors if row.name in scope.ends},
            zeros=[name for name, tensor in scope.tensors.items() if is_all_zero(tensor)],
            unit=self.unit,
        )
        self.warnings = tuple(self.shortage.sentences(float(sparsity)))
        self.threshold: float | None = None
        if has_threshold and selection.key is not None:
            self.threshold = key_value(selection.key, key_format)
        self.aliases, self.judged = scope.aliases, scope.judged
        self._packer: MaskPacker | None = MaskPacker(scope.tensors, sources, key_format, selection)
        self._masks: Masks | None = None

    def _need(self, end: TensorPlan) -> int:
        # With fewer weights, most outputs have none.
        return ceil_div(end.shape[output_dim(end.kind)], 2) if self.granularity == "weight" else 1

    def masks(self) -> Masks:
        """Return the masks; the first call computes them, with one pass over the weights.

        Raises `WeightsError` where the weights have changed between planning and this first call.
        """
        if self._masks is None and self._packer is not None:
            packed, shapes = self._packer.pack(), {row.name: row.shape for row in self.tensors}
            if self.granularity == "column":
                packed = {name: spread(columns, shapes[name]) for name, columns in packed.items()}
            self._masks = Masks(packed, shapes)
            self._packer = None  # releases the weights
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
            "min_kept": self.min_kept,
            "allocation": self.allocation,
            "scope": self.judged.to_dict(),
            "warnings": list(self.warnings),
            "tensors": [
                {
                    "name": row.name,
                    "kind": row.kind,
                    "shape": list(row.shape),
                    self.unit: row.numel,
                    "kept": row.kept,
                    "density": row.density,
                    "floor": row.floor,
                    "binds": row.binds,
                    "aliases": list(self.aliases.get(row.name, ())),
                }
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
        if self.min_kept:
            binding = sum(row.binds for row in self.tensors)
            text += (
                f"; minimum {self.min_kept:,} a tensor, which binds in {binding} of {len(self.tensors)} (*)"
            )
        return text

    def __repr__(self) -> str:
        return f"<Plan: {self.summary()}>"
