"""What a schedule of any class must hold to, so that a mistake in it shows before the training."""

from __future__ import annotations

from fractions import Fraction

from gpmt.core.budget.budget import parse_sparsity
from gpmt.core.schedule.schedule import ACDC, Event, Gradual, OneShot, Schedule, check_times
from gpmt.errors import BudgetError

_OURS = (OneShot, Gradual, ACDC)
_CHECKED = 1_000_000
"""Times of a schedule to look at in advance; later ones are checked when they come."""


def check_schedule(schedule: Schedule) -> Fraction:
    """Check a schedule of any class as far as can be known in advance; return the largest sparsity that it asks for.

    Raises `BudgetError` for a sparsity, unit, time or event that is not valid, for a `last` at which nothing happens
    or that events come after, and for a last pruning to another sparsity than the schedule's.
    """
    kind = type(schedule).__name__
    if not hasattr(schedule, "sparsity"):
        raise BudgetError(
            f"{kind} has no attribute sparsity; set it to the sparsity that the network ends with"
        )
    sparsity = parse_sparsity(schedule.sparsity)
    if type(schedule) in _OURS:
        return sparsity
    check_times(schedule, "last")
    schedule.to_dict()
    last, unit = schedule.last, schedule.unit
    events = [event for time in range(min(last, _CHECKED) + 1) if (event := event_at(schedule, time))]
    final = event_at(schedule, last)
    if final is None:
        raise BudgetError(
            f"last of {kind} is {last}, but nothing happens at that {unit}; let last be the time of the last event"
        )
    event_at(schedule, last + 1)
    if final.sparsity not in (None, sparsity):
        raise BudgetError(
            f"the last pruning of {kind}, at {unit} {last}, is to {_exact(final.sparsity)}, but its sparsity is "
            f"{_exact(sparsity)}; let it end with its sparsity"
        )
    return max([sparsity, *(event.sparsity for event in events if event.sparsity is not None)])


def last_restore(schedule: Schedule) -> int:
    """Return the last time at which a schedule makes the network dense again, as far as known; -1 if it never does.

    >>> last_restore(ACDC(0.9)), last_restore(OneShot(0.9))
    (75, -1)
    """
    if isinstance(schedule, ACDC):
        return schedule.last_restore
    if isinstance(schedule, OneShot | Gradual):
        return -1
    events = map(schedule.event, range(min(schedule.last, _CHECKED) + 1))
    return max((event.time for event in events if event is not None and event.sparsity is None), default=-1)


def event_at(schedule: Schedule, time: int) -> Event | None:
    """Return what happens at a time, if anything.

    Raises `BudgetError` where the schedule returns something else than an `Event` of that time or None, where the
    event is not valid, or where it comes after the last one.
    """
    kind, unit = type(schedule).__name__, schedule.unit
    try:
        event: object = schedule.event(time)
    except BudgetError as error:
        raise BudgetError(f"the event of {kind} at {unit} {time} is not valid: {error}") from None
    if event is None:
        return None
    if not isinstance(event, Event):
        raise BudgetError(
            f"{kind}.event({time}) returned {event!r}, but must return an Event, such as Event({time}, 0.5), or None"
        )
    if event.time != time:
        raise BudgetError(
            f"{kind}.event({time}) returned an event at {unit} {event.time}, but an event happens at the time that "
            f"is asked for; return Event({time}, ...), or None where nothing happens"
        )
    if time > schedule.last:
        raise BudgetError(
            f"{kind} has an event at {unit} {time}, but its last is {schedule.last}; let last be the time of the "
            "last event"
        )
    return event


def _exact(sparsity: Fraction | None) -> str:
    return f"{float(sparsity or 0):g} ({sparsity})"
