"""Uniform pruning: the same density in every tensor."""

from gpmt.core.selection.allocation import CountAllocation, Problem
from gpmt.core.selection.share import share


class Uniform(CountAllocation):
    """Give every tensor the same density, as far as the floors allow."""

    def counts(self, problem: Problem) -> list[list[int]]:
        """Share each total in proportion to the sizes of the tensors."""
        return [share(problem.sizes, problem.sizes, total, problem.floors) for total in problem.totals]
