"""Erdős–Rényi-Kernel (Evci et al. 2020, "Rigging the Lottery", section 3)."""

from gpmt.core.selection.allocation import CountAllocation, Problem
from gpmt.core.selection.share import share


class ERK(CountAllocation):
    """Keep weights in proportion to the sum of a tensor's dimensions.

    A tensor that would get more than it has is kept whole, and the others share the rest.
    """

    columns = False  # the shares follow the shapes of the tensors, which columns do not have

    def counts(self, problem: Problem) -> list[list[int]]:
        """Share each total in proportion to the sums of the tensors' dimensions."""
        dimensions = [sum(shape) for shape in problem.shapes]
        return [share(dimensions, problem.sizes, total, problem.floors) for total in problem.totals]
