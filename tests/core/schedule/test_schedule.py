from __future__ import annotations

import copy
import dataclasses
import itertools
import json
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gpmt.core.budget.budget import exact_fraction
from gpmt.core.schedule.schedule import ACDC, Event, Gradual, OneShot, Schedule
from gpmt.errors import BudgetError


def times(schedule: Schedule, *, restores: bool) -> list[int]:
    return [event.time for event in schedule.events() if (event.sparsity is None) == restores]


@pytest.mark.parametrize("sparsity", [0.9, "0.9", "90%", Fraction(9, 10), Decimal("0.9")])
def test_sparsity_is_exact_in_any_spelling(sparsity: Any) -> None:
    assert OneShot(sparsity) == OneShot(0.9)
    assert OneShot(sparsity).event(0) == Event(0, Fraction(9, 10))
    assert Gradual(sparsity, end=3).event(3) == Event(3, Fraction(9, 10))
    assert ACDC(sparsity).event(85) == Event(85, Fraction(9, 10))


def test_one_shot_prunes_once() -> None:
    assert OneShot(0.5, at=3).events() == [Event(3, Fraction(1, 2))]
    assert OneShot(0.5, at=3).event(0) is None
    assert OneShot(0.5, at=3).last == 3
    assert OneShot(0).events() == [Event(0, Fraction(0))]


def test_gradual_follows_equation_1_of_zhu_and_gupta() -> None:
    schedule = Gradual(0.8, start=10, end=50, interval=10, initial=0.5)
    final, initial = Fraction(8, 10), Fraction(5, 10)
    expected = [final + (initial - final) * (1 - Fraction(10 * step, 4 * 10)) ** 3 for step in range(5)]
    assert schedule.events() == [Event(10 + 10 * step, expected[step]) for step in range(5)]


def test_linear_gradual_rises_by_equal_amounts() -> None:
    schedule = Gradual(0.8, start=2, end=6, shape="linear")
    assert [event.sparsity for event in schedule.events()] == [Fraction(step, 5) for step in range(1, 5)]


def test_gradual_hits_its_end_where_the_interval_does_not_divide() -> None:
    assert times(Gradual(0.9, start=1, end=9, interval=3), restores=False) == [4, 7, 9]
    assert times(Gradual(0.9, start=1, end=9, interval=30, initial=0.1), restores=False) == [1, 9]


@given(
    start=st.integers(0, 30),
    length=st.integers(1, 60),
    interval=st.integers(1, 70),
    ratios=st.tuples(st.fractions(0, "99/100"), st.fractions(0, "99/100")).map(sorted),
    shape=st.sampled_from(["cubic", "linear"]),
)
def test_gradual_only_rises_from_initial_to_exactly_the_target(
    start: int, length: int, interval: int, ratios: list[Fraction], shape: Any
) -> None:
    initial, final = ratios
    end = start + length
    schedule = Gradual(final, start=start, end=end, interval=interval, initial=initial, shape=shape)
    events = schedule.events()
    rising = [event.sparsity for event in events if event.sparsity is not None]
    assert len(rising) == len(events)
    assert rising == sorted(rising)
    assert events[-1] == Event(end, final)
    assert initial <= rising[0]
    assert {event.time for event in events} | {start} == {*range(start, end, interval), start, end}
    assert all(schedule.event(event.time) == event for event in events)
    assert schedule.event(end + 1) is None


def test_acdc_at_100_epochs_is_the_papers() -> None:
    schedule = ACDC(0.9)
    assert times(schedule, restores=False) == [10, 20, 30, 40, 50, 60, 70, 85]
    assert times(schedule, restores=True) == [15, 25, 35, 45, 55, 65, 75]
    assert schedule.unit == "epoch"
    assert ACDC.over(0.9, 100) == schedule


def test_acdc_scales_to_200_epochs() -> None:
    doubled = [Event(2 * event.time, event.sparsity) for event in ACDC(0.9).events()]
    assert ACDC.over("90%", 200).events() == doubled


def test_acdc_over_any_total_alternates_and_ends_sparse() -> None:
    """Its last sparse phase is long enough, the last dense one is a tenth, and the others a twentieth each."""
    for total, share in itertools.product(range(5, 300), (None, 0.15, "30%", 0.5)):
        schedule = ACDC.over(0.9, total, unit="step", last_sparse=share)
        events = schedule.events()
        pruned = [event.sparsity is not None for event in events]
        assert pruned == [index % 2 == 0 for index in range(len(events))]
        assert len(events) >= 3
        assert pruned[-1]
        assert events[0].time >= 0
        assert (events[0].time > 0) or total < 8
        left = Fraction(total - schedule.last, total)
        least = exact_fraction(0.3 if share is None else share)
        assert least <= left < least + Fraction(1, total)
        assert schedule.last - schedule.last_restore >= max(1, total // 10)
        assert schedule.unit == "step"


def test_the_last_phase_of_acdc_is_the_papers_from_100_epochs_on() -> None:
    assert [ACDC.over(0.9, total).last for total in (20, 99, 100, 120)] == [14, 69, 85, 102]
    assert ACDC.over(0.9, 1000, unit="step", last_sparse=0.15).last == 850
    assert ACDC.over(0.9, 1000, unit="step").last == 700
    assert ACDC.over(0.9, 100, last_sparse=0.3).last == 70


def test_two_epochs_in_steps() -> None:
    """Of 782 steps, 235 are left after the final pruning, where the published shares leave 118."""
    schedule = ACDC.over(0.98, 782, unit="step")
    assert (schedule.start, schedule.sparse, schedule.last_restore, schedule.last) == (78, 39, 429, 547)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (OneShot("90%", 4), {"kind": "OneShot", "sparsity": "9/10", "at": 4, "unit": "step"}),
        (
            Gradual(0.5, end=8, unit="epoch"),
            {
                "kind": "Gradual",
                "sparsity": "1/2",
                "start": 0,
                "end": 8,
                "interval": 1,
                "initial": "0",
                "shape": "cubic",
                "unit": "epoch",
            },
        ),
        (
            ACDC(0.5),
            {
                "kind": "ACDC",
                "sparsity": "1/2",
                "start": 10,
                "period": 10,
                "sparse": 5,
                "last_restore": 75,
                "end": 85,
                "unit": "epoch",
            },
        ),
    ],
)
def test_to_dict_is_plain_json(schedule: Schedule, expected: dict[str, object]) -> None:
    assert json.loads(json.dumps(schedule.to_dict())) == expected


class Plain(Schedule):
    """A schedule without fields."""

    last = 2

    def __init__(self, **settings: Any) -> None:
        self.sparsity = "90%"
        vars(self).update(settings)

    def event(self, time: int) -> Event | None:
        return Event(time, self.sparsity) if time == 2 else None


def test_to_dict_of_a_schedule_without_fields_has_its_attributes() -> None:
    made = Plain(
        milestones=(3, np.int64(5)),
        rate=np.float32(0.5),
        half=Fraction(1, 2),
        names={"a": None},
        _cache=object(),
    )
    expected = {
        "kind": "Plain",
        "sparsity": "9/10",
        "milestones": [3, 5],
        "rate": 0.5,
        "half": "1/2",
        "names": {"a": None},
        "unit": "step",
    }
    assert made.to_dict() == expected
    assert json.loads(json.dumps(made.to_dict())) == expected
    assert type(made.to_dict()["rate"]) is float
    made.unit = "epoch"
    assert made.to_dict()["unit"] == "epoch"


def test_to_dict_has_sparsity_and_unit_where_the_class_has_them() -> None:
    class Fixed(Plain):
        unit = "epoch"

        def __init__(self) -> None:
            pass

        sparsity = 0.25

    assert Fixed().to_dict() == {"kind": "Fixed", "sparsity": "1/4", "unit": "epoch"}


@pytest.mark.parametrize("odd", [object(), {1: 2}, [object()], torch.ones(1)])
def test_settings_that_are_not_plain_are_refused(odd: object) -> None:
    with pytest.raises(
        BudgetError,
        match=r"^rate of Plain holds a \w+, which cannot be saved with a run; give numbers, strings",
    ):
        Plain(rate=odd).to_dict()


@pytest.mark.parametrize("sparsity", [0.9, "0.9", "90%", Fraction(9, 10), Decimal("0.9"), np.float32(0.9)])
def test_an_event_is_exact_in_any_spelling(sparsity: Any) -> None:
    event = Event(3, sparsity)
    assert event.sparsity == Fraction(9, 10)
    assert event == dataclasses.replace(event) == copy.deepcopy(event)
    assert repr(event) == "Event(time=3, sparsity=Fraction(9, 10))"


@pytest.mark.parametrize("sparsity", [1, -0.1, float("nan"), "much", True])
def test_an_event_of_no_sparsity_is_refused(sparsity: Any) -> None:
    with pytest.raises(BudgetError, match="sparsity is "):
        Event(3, sparsity)


def test_schedules_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        OneShot(0.9).at = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: OneShot(1.2), r"sparsity is 1\.2, but must be at least 0 and below 1"),
        (lambda: OneShot(0.9, at=-1), "at is -1, but must be a whole number of steps, at least 0"),
        (lambda: OneShot(0.9, at=1.5), r"at is 1\.5, but must be a whole number of steps"),  # type: ignore[arg-type]
        (lambda: OneShot(0.9, at=True), "at is True, but must be a whole number"),
        (lambda: OneShot(0.9, unit="batch"), "unit is 'batch', but a schedule counts in 'step' or 'epoch'"),  # type: ignore[arg-type]
        (lambda: Gradual(0.9, end=8, interval=0), "interval is 0, but must be at least 1 step"),
        (lambda: Gradual(0.9, start=8, end=8), "end is 8, but must come after start, which is 8"),
        (
            lambda: Gradual(0.9, end=8, initial=0.95),
            r"initial is 0\.95, but must be .* at most sparsity, 0\.9",
        ),
        (lambda: Gradual(0.9, end=8, initial=-0.1), r"initial is -0\.1, but must be at least 0"),
        (lambda: Gradual(0.9, end=8, initial="much"), "initial is 'much', but must be a number"),
        (lambda: Gradual(0.9, end=8, shape="round"), "shape is 'round', but must be 'cubic' or 'linear'"),  # type: ignore[arg-type]
        (lambda: Gradual("90", end=8), "sparsity is 90, but must be at least 0 and below 1"),
        (lambda: ACDC(0.9, sparse=10), "sparse is 10, but must be at least 1 and below period, 10"),
        (lambda: ACDC(0.9, sparse=0), "sparse is 0, but must be at least 1"),
        (lambda: ACDC(0.9, last_restore=78), "last_restore is 78, .* a multiple of period, such as 75"),
        (lambda: ACDC(0.9, last_restore=5), "last_restore is 5, .* such as 15"),
        (lambda: ACDC(0.9, end=75), "end is 75, but must come after last_restore, which is 75"),
        (
            lambda: ACDC.over(0.9, 10, last_sparse=0.9),
            "last_sparse is 0.9 of 10 epochs, but the phases before need 3 of them; lower it",
        ),
        (lambda: ACDC.over(0.9, 10, last_sparse=1), "last_sparse is 1, but must be at least 0 and below 1"),
        (lambda: ACDC.over(0.9, 10, last_sparse="x"), "last_sparse is 'x', but must be"),
        (lambda: ACDC.over(0.9, 4), "total is 4 epochs, but AC/DC needs at least 5"),
    ],
)
def test_wrong_values_are_named(make: Any, message: str) -> None:
    with pytest.raises(BudgetError, match=message):
        make()
