"""Events come when their step is done; the Pruner's own tests run it with training."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch

from gpmt.core.schedule.schedule import Event, Gradual, OneShot, Schedule
from gpmt.errors import BudgetError
from gpmt.pruner.clock import Clock


def test_each_event_comes_once_and_in_order() -> None:
    clock = Clock(Gradual(0.8, end=4, interval=2, initial=0.1), None)
    assert [due.step for due in clock.due()] == [0]
    for _ in range(5):
        clock.add(None)
    assert [due.step for due in clock.due()] == [2, 4]
    assert list(clock.due()) == []
    assert clock.last == 4


def test_epochs_are_turned_into_steps() -> None:
    clock = Clock(OneShot(0.5, at=2, unit="epoch"), 3)
    assert clock.last == 6
    assert clock.event(6) == Event(2, Fraction(1, 2))
    assert [step for step in range(9) if clock.event(step)] == [6]
    assert clock.to_dict()["steps_per_unit"] == 3
    with pytest.raises(BudgetError, match="steps_per_epoch is None, but the schedule counts in epochs"):
        Clock(OneShot(0.5, unit="epoch"), None)


def test_skipped_steps_do_not_bring_an_event() -> None:
    clock = Clock(OneShot(0.5, at=2), None)
    clock.add(torch.tensor(1.0))
    clock.add(torch.tensor(0.0))
    assert list(clock.due()) == []
    clock.add(None)
    assert [due.step for due in clock.due()] == [2]
    assert clock.read() == 2


def test_an_event_whose_pruning_fails_is_not_repeated_after_the_next_step() -> None:
    clock = Clock(Gradual(0.5, end=3, initial=0.1), None)
    clock.add(None)
    for due in clock.due():
        assert due.step == 0
        break
    assert [due.step for due in clock.due()] == [1]


def test_time_can_be_set() -> None:
    clock = Clock(Gradual(0.5, end=3, initial=0.1), None)
    clock.set(2)
    assert list(clock.due()) == []
    clock.add(None)
    assert [due.step for due in clock.due()] == [3]


def test_without_a_schedule_nothing_is_due() -> None:
    clock = Clock(None, None)
    clock.add(None)
    assert list(clock.due()) == []
    assert (clock.read(), clock.last, clock.event(0)) == (1, 0, None)
    assert clock.to_dict() == {"schedule": None, "steps_per_unit": 1}


def test_events_after_the_last_are_an_error() -> None:
    class Late(Schedule):
        sparsity, last = 0.5, 1

        def event(self, time: int) -> Event | None:
            return Event(time, 0.5) if time in (1, 3) else None

    clock = Clock(Late(), None)
    clock.set(1)
    clock.add(None)
    clock.add(None)
    with pytest.raises(
        BudgetError,
        match=r"^Late has an event at step 3, but its last is 1; let last be the time of the last event$",
    ):
        list(clock.due())


def test_updates_of_a_method_come_at_their_steps_after_the_event_of_the_same_step() -> None:
    clock = Clock(OneShot(0.5, at=2), None, lambda step: step > 0 and step % 2 == 0)
    for _ in range(5):
        clock.add(None)
    assert [(due.step, due.event is not None, due.update) for due in clock.due()] == [
        (2, True, True),
        (4, False, True),
    ]
