"""The minutes or epochs after which a run stops, so that long trainings fit into limited sessions."""

import time

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list


class TimeBudgetSpent(Exception):
    """The minutes or epochs are over; the run can go on from its last state."""


class TimeBudget:
    """Minutes and epochs, over all phases, after which a run stops with its state saved."""

    def __init__(self, *, minutes: float | None = None, epochs: int | None = None) -> None:
        self.minutes, self.epochs = minutes, epochs
        self._start, self._done = time.monotonic(), 0

    def count_epoch(self, accelerator: Accelerator) -> None:
        """Count an epoch whose state is saved; raise `TimeBudgetSpent`, in all processes, if nothing is left."""
        self._done += 1
        reasons: list[str | None] = [None]
        if self.epochs is not None and self._done >= self.epochs:
            reasons = [f"after {self._done} epoch{'s' * (self._done > 1)}"]
        elif self.minutes is not None and time.monotonic() - self._start >= 60 * self.minutes:
            reasons = [f"after {self.minutes:g} minutes"]
        broadcast_object_list(reasons)  # clocks differ
        if reasons[0] is not None:
            raise TimeBudgetSpent(reasons[0])
