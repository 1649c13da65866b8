"""When to prune and to which sparsity: one-shot, gradual, and alternating compressed/decompressed training.

A schedule is a pure function of time, counted in whole steps of the optimiser or whole epochs (its `unit`).
Time 0 is before the first step; time t is right after step (epoch) t. Users may write their own
(docs/extending.md).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, fields, is_dataclass
from decimal import Decimal
from fractions import Fraction
from numbers import Integral, Real
from typing import Any, Literal, get_args

from gpmt.core.budget.budget import Ratio, exact_fraction, parse_sparsity
from gpmt.errors import BudgetError

Unit = Literal["step", "epoch"]
Shape = Literal["cubic", "linear"]


@dataclass(frozen=True, init=False)
class Event:
    """A pruning to `sparsity` at `time`; the network is made dense again where `sparsity` is None.

    A sparsity may be given as `gpmt.plan` takes it, and is made an exact fraction. Raises `BudgetError` for one that
    is not at least 0 and below 1.

    >>> Event(3, 0.9)
    Event(time=3, sparsity=Fraction(9, 10))
    """

    time: int
    sparsity: Fraction | None

    def __init__(self, time: int, sparsity: Ratio | None) -> None:
        object.__setattr__(self, "time", time)
        object.__setattr__(self, "sparsity", None if sparsity is None else parse_sparsity(sparsity))


class Schedule(ABC):
    """The events of a training run. A subclass says when the last one is, and what happens at each time.

    It may be a dataclass or any other class. It has to give the same events whenever it is asked, so what it needs
    to know stands in its attributes. `Pruner` checks it when it gets it, and saves it with `to_dict`.

    Attributes:
        sparsity: the one that the last pruning has, as `gpmt.plan` takes it.
        unit: what time counts, "step" (the default) or "epoch".

    >>> class Twice(Schedule):
    ...     sparsity, last = 0.9, 20
    ...
    ...     def event(self, time):
    ...         return Event(time, {10: 0.5, 20: 0.9}[time]) if time in (10, 20) else None
    >>> [str(event.sparsity) for event in Twice().events()]
    ['1/2', '9/10']
    """

    sparsity: Ratio
    unit: Unit = "step"

    @property
    @abstractmethod
    def last(self) -> int:
        """The time of the last event; from then on the masks stay as they are."""

    @abstractmethod
    def event(self, time: int) -> Event | None:
        """Return what happens at `time`, or None where nothing does."""

    def events(self) -> list[Event]:
        """Return all events in order."""
        return [event for time in range(self.last + 1) if (event := self.event(time))]

    def to_dict(self) -> dict[str, Any]:
        """Return the kind and the settings as plain values, ready for JSON; sparsities as exact ratios.

        The settings are the fields of a dataclass, or the attributes of any other object, without those whose names
        begin with an underscore. Two schedules are the same, for resuming a run, where this is equal.

        Raises `BudgetError` for a setting that is not plain: numbers, strings, None, and lists and mappings of them.

        >>> OneShot(0.9).to_dict()
        {'kind': 'OneShot', 'sparsity': '9/10', 'at': 0, 'unit': 'step'}
        """
        names = [field.name for field in fields(self)] if is_dataclass(self) else list(vars(self))
        settings = {name: getattr(self, name) for name in names if not name.startswith("_")}
        exact = {"sparsity": str(parse_sparsity(self.sparsity))}
        return {
            "kind": type(self).__name__,
            **{name: exact.get(name) or _plain(self, name, value) for name, value in settings.items()},
            **{name: value for name, value in exact.items() if name not in settings},
            **({} if "unit" in settings else {"unit": self.unit}),
        }

    def _check(self, *times: str) -> None:
        """Make the sparsity exact; refuse a wrong unit and times that are not whole numbers of at least 0."""
        object.__setattr__(self, "sparsity", parse_sparsity(self.sparsity))
        check_times(self, *times)


def check_times(schedule: Schedule, *names: str) -> None:
    """Refuse a wrong unit, and times that are not whole numbers of at least 0; `names` are those of attributes."""
    if schedule.unit not in get_args(Unit):
        raise BudgetError(f"unit is {schedule.unit!r}, but a schedule counts in 'step' or 'epoch'")
    for name in names:
        value = getattr(schedule, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            remedy = f"must be a whole number of {schedule.unit}s, at least 0"
            raise BudgetError(f"{name} is {value!r}, but {remedy}")


def _plain(schedule: Schedule, name: str, value: object) -> Any:
    """Return a setting as what JSON and a safe loading of a state take."""
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, Fraction | Decimal):
        return str(value)
    if isinstance(value, Integral):  # numbers of NumPy too
        return int(value)
    if isinstance(value, Real):
        return float(value)
    if isinstance(value, list | tuple):
        return [_plain(schedule, name, item) for item in value]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _plain(schedule, name, item) for key, item in value.items()}
    raise BudgetError(
        f"{name} of {type(schedule).__name__} holds a {type(value).__name__}, which cannot be saved with a run; give "
        f"numbers, strings, or lists of them, or call it _{name} where the other settings determine it"
    )


@dataclass(frozen=True)
class OneShot(Schedule):
    """Prune once to `sparsity` at time `at`: by default before the first step, to fine-tune a trained network.

    Raises `BudgetError` for values out of range.

    >>> OneShot(0.9).events()
    [Event(time=0, sparsity=Fraction(9, 10))]
    """

    sparsity: Ratio
    at: int = 0
    unit: Unit = "step"

    def __post_init__(self) -> None:
        self._check("at")

    @property
    def last(self) -> int:
        """The time of the only event."""
        return self.at

    def event(self, time: int) -> Event | None:
        """Return the pruning at `at`, None at any other time."""
        return Event(time, parse_sparsity(self.sparsity)) if time == self.at else None


@dataclass(frozen=True)
class Gradual(Schedule):
    """Raise the sparsity from `initial` at time `start` to `sparsity` at time `end`, every `interval`.

    At time t it is s_f + (s_i − s_f) · (1 − (t − start) / (end − start))³ (Zhu & Gupta 2017, eq. 1), or with
    the exponent 1 for ``shape="linear"``. Cubic prunes most while the network still has weights to spare. The
    final sparsity comes exactly at `end`, also where `interval` does not divide the way to it; nothing is
    pruned at `start` where `initial` is 0.

    Raises `BudgetError` for values out of range, `end` before `start`, or `initial` above `sparsity`.

    >>> [str(event.sparsity) for event in Gradual(0.8, end=4, interval=2).events()]
    ['7/10', '4/5']
    """

    sparsity: Ratio
    _: KW_ONLY
    start: int = 0
    end: int
    interval: int = 1
    initial: Ratio = 0.0
    shape: Shape = "cubic"
    unit: Unit = "step"

    def __post_init__(self) -> None:
        self._check("start", "end", "interval")
        object.__setattr__(self, "initial", exact_fraction(self.initial, what="initial"))
        if self.interval == 0:
            raise BudgetError(f"interval is 0, but must be at least 1 {self.unit}")
        if self.end <= self.start:
            raise BudgetError(f"end is {self.end}, but must come after start, which is {self.start}")
        initial, final = exact_fraction(self.initial), exact_fraction(self.sparsity)
        if not 0 <= initial <= final:
            limits = f"at least 0 and at most sparsity, {float(final):g}"
            raise BudgetError(f"initial is {float(initial):g}, but must be {limits}")
        if self.shape not in get_args(Shape):
            raise BudgetError(f"shape is {self.shape!r}, but must be 'cubic' or 'linear'")

    @property
    def last(self) -> int:
        """The time of the last event, `end`."""
        return self.end

    def event(self, time: int) -> Event | None:
        """Return the pruning at `time` if it is one of start, start + interval, ..., end."""
        on_grid = self.start <= time <= self.end and (time - self.start) % self.interval == 0
        if not on_grid and time != self.end:
            return None
        final, initial = exact_fraction(self.sparsity), exact_fraction(self.initial)
        if time == self.start and initial == 0:
            return None
        way_left = 1 - Fraction(time - self.start, self.end - self.start)
        exponent = 3 if self.shape == "cubic" else 1
        return Event(time, final + (initial - final) * way_left**exponent)


_PUBLISHED, _SHORT = Fraction(15, 100), Fraction(3, 10)
"""The share of the last sparse phase of AC/DC in the paper's 100 epochs, and in shorter trainings."""


@dataclass(frozen=True)
class ACDC(Schedule):
    """Alternate sparse and dense phases, then stay sparse (AC/DC, Peste et al. 2021).

    Prunes to `sparsity` at `start` and every `period` after it; `sparse` later the masks are lifted, and the
    pruned weights train again, from zero. `last_restore` is the last lifting, and `end` the final pruning.
    The defaults are the paper's 100 epochs on ImageNet; `over` gives the same for another length.

    Raises `BudgetError` for values out of range, or a `last_restore` that ends no sparse phase.

    >>> [event.time for event in ACDC(0.9).events()]
    [10, 15, 20, 25, 30, 35, 40, 45, 50, 55, 60, 65, 70, 75, 85]
    """

    sparsity: Ratio
    _: KW_ONLY
    start: int = 10
    period: int = 10
    sparse: int = 5
    last_restore: int = 75
    end: int = 85
    unit: Unit = "epoch"

    def __post_init__(self) -> None:
        self._check("start", "period", "sparse", "last_restore", "end")
        if not 0 < self.sparse < self.period:
            raise BudgetError(
                f"sparse is {self.sparse}, but must be at least 1 and below period, {self.period}"
            )
        first_restore = self.start + self.sparse
        cycles, rest = divmod(self.last_restore - first_restore, self.period)
        if cycles < 0 or rest:
            raise BudgetError(
                f"last_restore is {self.last_restore}, but must be start + sparse + a multiple of period, "
                f"such as {first_restore + max(cycles, 0) * self.period}"
            )
        if self.end <= self.last_restore:
            raise BudgetError(
                f"end is {self.end}, but must come after last_restore, which is {self.last_restore}"
            )

    @classmethod
    def over(
        cls, sparsity: Ratio, total: int, *, unit: Unit = "epoch", last_sparse: Ratio | None = None
    ) -> ACDC:
        """Scale the paper's schedule from 100 epochs to `total` epochs (or steps), rounded to whole ones.

        Phases last total / 20, and the last dense phase at least total / 10; what is left, from the final pruning on,
        is the last sparse phase. Twice the paper's epochs, ``over(0.9, 200)``, gave ResNet-50 on ImageNet 76.09 % at
        90 % and 74.29 % at 95 % with the same sparsity in every layer but the first and the last, against 75.04 % and
        73.28 %.

        Args:
            sparsity: the sparsity of each sparse phase.
            total: how long the training is.
            unit: what `total` counts.
            last_sparse: the share of the training that the last sparse phase has at least. The paper's 100 epochs end
                with 0.15, which is the default for 100 epochs and more; otherwise it is 0.3, because in a short
                training little is learned again in the last 15 %.

        Raises `BudgetError` for a total below 5, and for a last phase that leaves no room for the others.

        >>> [event.time for event in ACDC.over(0.9, 20).events()]
        [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 14]
        >>> ACDC.over(0.9, 20, last_sparse=0.15).end, ACDC.over(0.9, 100) == ACDC(0.9)
        (17, True)
        """
        if total < 5:
            raise BudgetError(f"total is {total} {unit}s, but AC/DC needs at least 5 for its phases")
        long = unit == "epoch" and total >= 100
        share = exact_fraction(
            (_PUBLISHED if long else _SHORT) if last_sparse is None else last_sparse, what="last_sparse"
        )
        if not 0 <= share < 1:
            raise BudgetError(f"last_sparse is {float(share):g}, but must be at least 0 and below 1")
        phase = max(1, round(total / 20))
        end = total - math.ceil(share * total)
        latest = min(end - 1, end - total // 10)
        start = min(2 * phase, latest - phase)
        if start < 0:
            raise BudgetError(
                f"last_sparse is {float(share):g} of {total} {unit}s, but the phases before need {2 * phase + 1} of "
                "them; lower it"
            )
        first = start + phase
        return cls(
            sparsity,
            start=start,
            period=2 * phase,
            sparse=phase,
            last_restore=first + (latest - first) // (2 * phase) * 2 * phase,
            end=end,
            unit=unit,
        )

    @property
    def last(self) -> int:
        """The time of the final pruning, `end`."""
        return self.end

    def event(self, time: int) -> Event | None:
        """Return the pruning or restoring at `time`, None inside a phase."""
        pruned = Event(time, exact_fraction(self.sparsity))
        if time == self.end:
            return pruned
        if not self.start <= time <= self.last_restore:
            return None
        phase = (time - self.start) % self.period
        if phase == 0:
            return pruned
        return Event(time, None) if phase == self.sparse else None
