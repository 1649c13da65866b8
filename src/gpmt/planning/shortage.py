"""What a plan keeps too little of: blocks with no weight, first and last layers with hardly any, and the remedy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from gpmt.arithmetic import ceil_div
from gpmt.core.budget.budget import floor_of, largest_sparsity
from gpmt.core.layers.layers import output_dim
from gpmt.core.units.unit import Unit
from gpmt.planning.rows import GroupPlan, TensorPlan


@dataclass(frozen=True)
class Shortage:
    """What a plan keeps too little of.

    Attributes:
        sparsity: the sparsity that was asked for.
        of: which group of several it is about, as sentences say it.
        sizes: the number of values of each block, by name.
        kept: how many of them it keeps.
        ends: the first and the last layer of the network, as far as they are in the scope: name -> "first" or "last".
        outputs: the number of outputs of these two.
        needs: the values that they need at least.
        zeros: the blocks that were all zero before.
        unit: what is counted, "weights" or "columns".
        where: what is counted in, "tensors" or "blocks".
    """

    sparsity: Fraction
    of: str
    sizes: Mapping[str, int]
    kept: Mapping[str, int]
    ends: Mapping[str, str]
    outputs: Mapping[str, int]
    needs: Mapping[str, int]
    zeros: Sequence[str]
    unit: str
    where: str = "tensors"

    @cached_property
    def dead(self) -> list[str]:
        """The blocks that keep nothing, though they had something."""
        return [name for name, kept in self.kept.items() if not kept and name not in self.zeros]

    @cached_property
    def thin(self) -> list[str]:
        """The first and the last layer where they keep something, but less than they need."""
        return [name for name, need in self.needs.items() if 0 < self.kept[name] < need]

    @cached_property
    def names(self) -> frozenset[str]:
        """All blocks that `sentences` is about."""
        pruned_zeros = (name for name in self.zeros if self.kept[name] < self.sizes[name])
        return frozenset([*self.dead, *self.thin, *pruned_zeros])

    def min_kept(self) -> int | None:
        """Return a minimum that surely leaves no shortage; None where the sparsity has no room for it."""
        minimum = self._enough()
        return minimum if self._taken(minimum) <= sum(self.kept.values()) else None

    def _enough(self) -> int:
        """Return the smallest minimum that is surely enough, whether there is room for it or not."""
        needs = sorted({1, *self.needs.values()})
        return next(minimum for minimum in needs if self._is_enough(minimum))

    def _is_enough(self, minimum: int) -> bool:
        # A minimum takes from the tensors above it what it gives to those below, from one tensor all of it at most.
        given = sum(max(0, floor_of(size, minimum) - self.kept[name]) for name, size in self.sizes.items())
        return all(minimum >= need or self.kept[name] - given >= need for name, need in self.needs.items())

    def _taken(self, minimum: int) -> int:
        return sum(floor_of(size, minimum) for size in self.sizes.values())

    def sentences(self, *, known: Set[str] = frozenset()) -> list[str]:
        """Describe the shortages and their remedies, but for those of `known` blocks; empty where there is none."""
        dead, thin, zeros = (
            [name for name in names if name in self.names - known]
            for names in (self.dead, self.thin, self.zeros)
        )
        said = []
        if dead or thin:
            parts = []
            if dead:
                parts.append(
                    f"no {self.unit[:-1]} in {len(dead)} of {len(self.sizes)} {self.where} ({_some(dead)})"
                )
            parts += [
                f"only {self.kept[name]:,} of {self.sizes[name]:,} {self.unit} in the {self.ends[name]} layer "
                f"{name}, which has {self.outputs[name]:,} outputs"
                for name in thin
            ]
            said.append(
                f"sparsity {float(self.sparsity):g}{self.of} leaves {' and '.join(parts)}; {self._remedy()}"
            )
        if zeros:
            were, them = ("was", "it") if len(zeros) == 1 else ("were", "them")
            said.append(
                f"{_some(zeros)} {were} all zero before pruning, so that magnitudes do not tell which weights matter "
                f"and nearly all stay zero: exclude {them}, or prune after training"
            )
        return said

    def _remedy(self) -> str:
        minimum = self.min_kept()
        if minimum is not None:
            return f"a min_kept of {minimum:,} would prevent it"
        numel, needed = sum(self.sizes.values()), self._taken(self._enough())
        return (
            f"a min_kept of {self._enough():,} would prevent it at a sparsity of at most "
            f"{largest_sparsity(numel, needed)}"
        )


def shortages_of(
    tensors: Sequence[TensorPlan], groups: Sequence[GroupPlan], unit: Unit
) -> tuple[Shortage, ...]:
    """Return what each group keeps too little of."""
    ends = {row.name: row for row in tensors if row.end is not None and len(row.blocks) == 1}
    outputs = {name: row.shape[output_dim(row.kind)] for name, row in ends.items()}
    where = "tensors" if all(len(row.blocks) == 1 for row in tensors) else "blocks"
    found = []
    for group in groups:
        own = [row.name for row in group.blocks if row.name in ends]
        found.append(
            Shortage(
                sparsity=group.sparsity,
                of=group.of,
                sizes={row.name: row.numel for row in group.blocks},
                kept={row.name: row.kept for row in group.blocks},
                ends={name: ends[name].end or "" for name in own},
                outputs=outputs,
                # With fewer weights, most outputs have none.
                needs={name: ceil_div(outputs[name], 2) if unit.name == "weight" else 1 for name in own},
                zeros=[row.name for row in group.blocks if row.zero],
                unit=unit.plural,
                where=where,
            )
        )
    return tuple(found)


def _some(names: Sequence[str], limit: int = 3) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
