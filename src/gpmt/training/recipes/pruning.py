"""The section of a recipe that says what is pruned, when, and by which method."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, ValidationInfo, model_validator

from gpmt import allocations
from gpmt.core.budget.budget import exact_fraction, parse_sparsity
from gpmt.core.budget.minimum import Minimum
from gpmt.core.schedule.schedule import ACDC, Gradual, OneShot, Schedule
from gpmt.core.selection.nm import NM
from gpmt.core.units.names import Granularity
from gpmt.training.recipes.section import NAMES_ALONE, Count, Section

if TYPE_CHECKING:
    from gpmt.pruner.methods.method import Method

SOFT = ("feather", "st-3")
"""The methods that let pruned weights train on, by name alone; a test holds them to the classes."""

FROM_SCRATCH = ("set", "rigl", "rigl+ham")
"""The methods that train an untrained network which is sparse from the start."""

Patterns = Annotated[
    tuple[str, ...], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)
]


class Prune(Section):
    """What is pruned, to which sparsity, when and how; the settings are those of `gpmt.plan` and `gpmt.Pruner`.

    `method` says what happens to pruned weights while training, with the `method_settings` of its class. The default
    of `schedule` fits it: ``gradual`` for those that let pruned weights train on (feather, st-3), else ``one-shot``.
    `start`, `end` and `interval` count epochs of fine-tuning, in fractions too, and are for ``one-shot`` (`start`
    alone) and ``gradual``, which begins with the sparsity `initial`. It ends after half of the epochs, and prunes
    once in each, in short trainings ten times in all; feather and st-3 prune at every step. ``ac-dc`` scales the
    published schedule to the epochs there are; below 100 its last sparse phase is 30 % of them. `recalibrate` is the
    number of training images from which the statistics of the batch norms are recomputed right after one-shot
    pruning, before the network is evaluated and fine-tuned: ``auto`` is 1,000, 0 leaves them.
    """

    sparsity: Annotated[float | int | str, PlainValidator(lambda value: _parsed(value, parse_sparsity))]
    min_kept: Annotated[
        int | str, PlainValidator(lambda value: _parsed(value, lambda v: Minimum.parse(v, total=0)))
    ] = 0
    allocation: Annotated[str, AfterValidator(allocations.check_name)] = "exact"
    granularity: Granularity = "weight"
    within: Literal["network", "tensor", "row"] = "network"
    pattern: Annotated[str | None, BeforeValidator(lambda value: _pattern(value))] = None
    scope: Patterns | None = None
    exclude: Patterns | None = ()
    method: str = "hard"
    method_settings: dict[str, Any] = Field(default_factory=dict)
    schedule: Literal["one-shot", "gradual", "ac-dc"] = "one-shot"
    start: float = Field(0.0, ge=0)
    end: float | None = Field(None, gt=0)
    interval: float | None = Field(None, gt=0)
    initial: Annotated[
        float | int | str,
        PlainValidator(lambda value: _parsed(value, lambda v: exact_fraction(v, what="initial"))),
    ] = 0
    recalibrate: Count = "auto"

    @model_validator(mode="before")
    @classmethod
    def _fitting_schedule(cls, settings: Any) -> Any:
        """Fill in the schedule that fits the method."""
        if not isinstance(settings, Mapping) or settings.get("schedule") is not None:
            return settings
        return {**settings, "schedule": fitting_schedule(settings.get("method"))}

    @model_validator(mode="after")
    def _consistent(self) -> Prune:
        if self.schedule != "gradual":
            for key in ("end", "interval", "initial"):
                if getattr(self, key) not in (None, 0):
                    raise ValueError(f"{key} is given, but schedule is {self.schedule}; it is for gradual")
        if self.schedule == "ac-dc" and self.start:
            raise ValueError("start is given, but ac-dc scales the published schedule; leave it out")
        if not 0 <= exact_fraction(self.initial) <= parse_sparsity(self.sparsity):
            raise ValueError(f"initial is {self.initial}, but must be at least 0 and at most sparsity")
        if self.recalibrate not in ("auto", 0) and not self.at_once:
            raise ValueError("recalibrate is for one-shot pruning before fine-tuning; leave it out")
        if self.pattern is not None:
            NM.parse(self.pattern).check_sparsity(parse_sparsity(self.sparsity))
            if self.schedule == "gradual":
                raise ValueError(
                    f"schedule is gradual, but pattern {self.pattern} has one sparsity; give one-shot or ac-dc"
                )
        return self

    @model_validator(mode="after")
    def _known_method(self, info: ValidationInfo) -> Prune:
        """Look the method up, which needs PyTorch, unless the caller left that out."""
        if info.context != NAMES_ALONE:
            self.make_method()
        return self

    @property
    def described(self) -> str:
        """Schedule and method in words, without the default of either."""
        if self.method == "hard":
            return self.schedule
        return (
            self.method
            if self.schedule == fitting_schedule(self.method)
            else f"{self.schedule}+{self.method}"
        )

    @property
    def at_once(self) -> bool:
        """Whether all is pruned before the first step."""
        return self.schedule == "one-shot" and not self.start

    @property
    def at_every_step(self) -> bool:
        """Whether there is a pruning after every step for a while."""
        return self.schedule == "gradual" and self.method in SOFT and self.interval is None

    @property
    def recalibration(self) -> int:
        """How many training images measure the statistics of batch norms after pruning."""
        if self.recalibrate == "auto":
            return 1000 if self.needs_weights and parse_sparsity(self.sparsity) else 0
        return self.recalibrate

    @property
    def needs_weights(self) -> bool:
        """Whether there is no use in pruning an untrained network in this way."""
        return self.at_once and self.method not in FROM_SCRATCH

    @property
    def trains(self) -> bool:
        """Whether the method does its work while it trains."""
        return self.method in (*SOFT, *FROM_SCRATCH)

    def make_schedule(self, *, epochs: int, steps_per_epoch: int) -> Schedule:
        """Return the schedule in steps of the optimiser, for that many epochs of fine-tuning.

        >>> Prune(sparsity=0.9, schedule="gradual").make_schedule(epochs=100, steps_per_epoch=10).last
        500
        """
        total = epochs * steps_per_epoch
        start = round(self.start * steps_per_epoch)
        if self.schedule == "one-shot":
            return OneShot(self.sparsity, at=start)
        if self.schedule == "ac-dc":
            published = 0.15 if epochs >= 100 else None
            return ACDC.over(self.sparsity, total, unit="step", last_sparse=published)
        end = round((epochs / 2 if self.end is None else self.end) * steps_per_epoch)
        # Hard pruning disturbs, so once an epoch; but in short trainings often enough to be gradual.
        usual = 0.0 if self.method in SOFT else min(1.0, epochs / 20)
        interval = round((usual if self.interval is None else self.interval) * steps_per_epoch)
        return Gradual(self.sparsity, start=start, end=end, interval=max(1, interval), initial=self.initial)

    def make_method(self, steps: int | None = None) -> Method:
        """Return the method, set for a training of so many steps of the optimiser where they are given."""
        from gpmt.errors import MethodError
        from gpmt.pruner.methods.registry import method_of

        try:
            method = method_of(self.method, **self.method_settings)
        except MethodError as error:
            prefix = "" if str(error).startswith("method ") else "method_settings."
            raise MethodError(f"{prefix}{error}") from None
        return method if steps is None else method.for_training(steps)


def fitting_schedule(method: object) -> str:
    """Return the default of `Prune.schedule` for a method."""
    return "gradual" if method in SOFT else "one-shot"


def _pattern(value: Any) -> Any:
    """Return a pattern N:M; YAML reads 2:4 as 124, two minutes and four seconds."""
    if value is None:
        return None
    if type(value) is int:
        value = f"{value // 60}:{value % 60}"
    return str(NM.parse(value))


def _parsed(value: Any, parse: Any) -> Any:
    """Return `value` as it was given once `parse` accepts it."""
    parse(value)
    return value
