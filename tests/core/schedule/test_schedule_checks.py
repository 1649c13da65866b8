"""Mistakes in a schedule of a user's own are told before the training, in one sentence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import pytest

from gpmt.core.schedule.schedule import ACDC, Event, Gradual, OneShot, Schedule
from gpmt.core.schedule.schedule_checks import check_schedule, event_at, last_restore
from gpmt.errors import BudgetError


def schedule(events: dict[int, Any], *, sparsity: Any = 0.5, last: Any = 3, unit: Any = "step") -> Schedule:
    """Return a schedule of a class of its own whose event at each time is given, or made from a sparsity."""

    class Own(Schedule):
        def event(self, time: int) -> Any:
            found = events.get(time)
            return found() if callable(found) else found

    Own.last = property(lambda self: last)  # type: ignore[assignment]
    Own.__abstractmethods__ = frozenset()  # type: ignore[attr-defined]
    made = Own()
    made.sparsity, made.unit = sparsity, unit
    return made


@pytest.mark.parametrize("ours", [OneShot("90%"), Gradual(0.9, end=10**12), ACDC(0.9)])
def test_our_own_are_right_however_long(ours: Schedule) -> None:
    assert check_schedule(ours) == Fraction(9, 10)


def test_the_largest_sparsity_counts_wherever_it_is() -> None:
    assert check_schedule(schedule({1: Event(1, 0.8), 3: Event(3, 0.5)})) == Fraction(4, 5)
    # It may end dense.
    assert check_schedule(schedule({1: Event(1, 0.8), 3: Event(3, None)}, sparsity=0.8)) == Fraction(4, 5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: schedule({}, sparsity=1.5), r"^sparsity is 1\.5, but must be at least 0 and below 1"),
        (lambda: schedule({}, sparsity=None), "^sparsity is None, but must be a number"),
        (lambda: schedule({}, unit="batch"), "^unit is 'batch', but a schedule counts in 'step' or 'epoch'$"),
        (lambda: schedule({}, last=2.5), r"^last is 2\.5, but must be a whole number of steps, at least 0$"),
        (lambda: schedule({}, last=-1), "^last is -1, but must be a whole number of steps"),
        (
            lambda: schedule({1: Event(1, 0.5)}, unit="epoch"),
            "^last of Own is 3, but nothing happens at that epoch; let last be the time of the last event$",
        ),
        (
            lambda: schedule({3: Event(3, 0.5), 4: Event(4, 0.5)}),
            "^Own has an event at step 4, but its last is 3; let last be the time of the last event$",
        ),
        (
            lambda: schedule({3: Event(3, 0.4)}),
            r"^the last pruning of Own, at step 3, is to 0\.4 \(2/5\), but its sparsity is 0\.5 \(1/2\); let it end",
        ),
        (
            lambda: schedule({1: lambda: Event(1, 1.25), 3: Event(3, 0.5)}),
            r"^the event of Own at step 1 is not valid: sparsity is 1\.25, but must be at least 0 and below 1",
        ),
        (
            lambda: schedule({1: lambda: Event(1, -0.1), 3: Event(3, 0.5)}, unit="epoch"),
            r"^the event of Own at epoch 1 is not valid: sparsity is -0\.1, but must be at least 0 and below 1$",
        ),
        (
            lambda: schedule({2: Event(1, 0.5), 3: Event(3, 0.5)}),
            r"^Own\.event\(2\) returned an event at step 1, but an event happens at the time that is asked for; "
            r"return Event\(2, \.\.\.\), or None where nothing happens$",
        ),
        (
            lambda: schedule({2: 0.5, 3: Event(3, 0.5)}),
            r"^Own\.event\(2\) returned 0\.5, but must return an Event, such as Event\(2, 0\.5\), or None$",
        ),
    ],
)
def test_mistakes_are_named(make: Callable[[], Schedule], message: str) -> None:
    with pytest.raises(BudgetError, match=message):
        check_schedule(make())


def test_a_schedule_without_a_sparsity() -> None:
    class Bare(Schedule):
        last = 0

        def event(self, time: int) -> Event | None:
            return Event(time, 0.5)

    with pytest.raises(
        BudgetError,
        match=r"^Bare has no attribute sparsity; set it to the sparsity that the network ends with$",
    ):
        check_schedule(Bare())


def test_settings_that_cannot_be_saved_are_told_in_advance() -> None:
    @dataclass
    class Odd(Schedule):
        sparsity: float
        device: Any
        last = 0

        def event(self, time: int) -> Event | None:
            return Event(0, self.sparsity) if time == 0 else None

    with pytest.raises(BudgetError, match=r"^device of Odd holds a object, which cannot be saved with a run"):
        check_schedule(Odd(0.5, object()))


def test_a_subclass_of_ours_is_checked_as_any_other() -> None:
    class Slower(OneShot):
        def event(self, time: int) -> Event | None:
            return super().event(time // 2)

    assert event_at(Slower(0.5), 4) is None
    with pytest.raises(BudgetError, match=r"^last of Slower is 1, but nothing happens at that step"):
        check_schedule(Slower(0.5, at=1))


def test_events_far_away_are_checked_when_they_come() -> None:
    far = 50_000_000
    assert check_schedule(schedule({far: Event(far, 0.5)}, last=far)) == Fraction(1, 2)


class Restoring(Schedule):
    """Makes the network dense once, or never."""

    sparsity, last = 0.5, 6

    def __init__(self, at: int | None) -> None:
        self.at = at

    def event(self, time: int) -> Event | None:
        if time == self.at:
            return Event(time, None)
        return Event(time, 0.5) if time in (2, 6) else None


def test_whether_a_schedule_makes_the_network_dense_again() -> None:
    assert last_restore(ACDC(0.9)) == 75
    assert last_restore(Restoring(4)) == 4
    assert last_restore(Restoring(None)) == -1
    assert last_restore(Gradual(0.9, end=10**12)) == -1
