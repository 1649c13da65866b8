"""The method: one global threshold, and a floor in every tensor."""

from collections.abc import Sequence

from gpmt.core.keys.keys import KeyFormat, KeySource
from gpmt.core.selection.allocation import Allocation, Problem
from gpmt.core.selection.select import Selection, select


class Exact(Allocation):
    """Keep the largest magnitudes of the network, after the floor of each tensor."""

    runs = True
    global_threshold = True

    def select(
        self, problem: Problem, sources: Sequence[KeySource], key_format: KeyFormat
    ) -> list[Selection]:
        """Select with the totals and floors of the problem; all sparsities share the passes over the weights."""
        return select(sources, key_format, totals=problem.totals, floors=problem.floors)
