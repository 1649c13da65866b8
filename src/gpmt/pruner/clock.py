"""When the events of a schedule are due, in steps of the optimiser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from gpmt.core.schedule.schedule import Event, Schedule
from gpmt.core.schedule.schedule_checks import event_at
from gpmt.pruner.arguments import steps_per_unit
from gpmt.pruner.step_counter import StepCounter


@dataclass(frozen=True)
class Due:
    """What happens after a step: the event of the schedule, if any, and then the update of the method, if due."""

    step: int
    event: Event | None
    update: bool


class Clock:
    """Counts steps, and tells what is due by then. Without a schedule nothing ever is.

    Attributes:
        schedule: what happens when, in its own unit of time.

    >>> import torch
    >>> from gpmt.core.schedule.schedule import Gradual
    >>> clock = Clock(Gradual(0.5, end=2, unit="epoch"), steps_per_epoch=3)
    >>> for _ in range(4):
    ...     clock.add(None)
    >>> clock.last, [due.step for due in clock.due()], list(clock.due())
    (6, [3], [])
    """

    def __init__(
        self,
        schedule: Schedule | None,
        steps_per_epoch: int | None,
        updates_at: Callable[[int], bool] = lambda step: False,
    ) -> None:
        """Take a schedule, the steps in its epoch, and what tells after which steps a method updates masks."""
        self.schedule, self._updates_at = schedule, updates_at
        self._steps_per_unit = 1 if schedule is None else steps_per_unit(schedule, steps_per_epoch)
        self._steps = StepCounter()
        self._done = -1  # the last step up to which no event is left

    @property
    def last(self) -> int:
        """The step of the last event."""
        return 0 if self.schedule is None else self.schedule.last * self._steps_per_unit

    def add(self, found_inf: object) -> None:
        """Count a step, as `StepCounter.add` does."""
        self._steps.add(found_inf)

    def read(self) -> int:
        """Return the steps done, as `StepCounter.read` does."""
        return self._steps.read()

    def set(self, steps: int) -> None:
        """Set the steps done, up to which no event is left."""
        self._steps, self._done = StepCounter(steps), steps

    def event(self, step: int) -> Event | None:
        """Return what happens at a step."""
        time, rest = divmod(step, self._steps_per_unit)
        return None if rest or self.schedule is None else event_at(self.schedule, time)

    def due(self) -> Iterator[Due]:
        """Yield what is due by now, each once; the count is read only where there may be something."""
        while self._done < self._steps.at_most:
            step = self._done + 1
            due = Due(step, self.event(step), self._updates_at(step))
            happens = due.event is not None or due.update
            if happens and self._steps.read() < step:
                return
            self._done = step
            if happens:
                yield due

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain values."""
        schedule = None if self.schedule is None else self.schedule.to_dict()
        return {"schedule": schedule, "steps_per_unit": self._steps_per_unit}
