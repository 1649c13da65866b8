"""Counting the steps of an optimiser without waiting for its device."""

from __future__ import annotations

from torch import Tensor


class StepCounter:
    """Counts the steps done. What a `GradScaler` skipped stands on a device, and is read only when it matters.

    Attributes:
        at_most: the steps done, had none of those since the last reading been skipped.

    >>> import torch
    >>> steps = StepCounter()
    >>> for found_inf in (None, torch.tensor(1.0), torch.tensor(0.0)):
    ...     steps.add(found_inf)
    >>> steps.at_most, steps.read(), steps.at_most
    (3, 2, 2)
    """

    def __init__(self, count: int = 0) -> None:
        self.at_most = count
        self._skipped: Tensor | None = None

    def add(self, found_inf: object) -> None:
        """Count a step, skipped if the value that a `GradScaler` leaves with an optimiser is not 0."""
        self.at_most += 1
        if not isinstance(found_inf, Tensor):
            self.at_most -= bool(found_inf)
            return
        skipped = (found_inf.detach() != 0).sum()
        if self._skipped is not None and self._skipped.device != skipped.device:
            self.read()
        self._skipped = skipped if self._skipped is None else self._skipped + skipped

    def read(self) -> int:
        """Return the steps done; this waits for the device if a `GradScaler` may have skipped any."""
        if self._skipped is not None:
            self.at_most -= int(self._skipped.item())
            self._skipped = None
        return self.at_most
