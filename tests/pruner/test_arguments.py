"""Arguments that are no model, no schedule or no number of steps; the Pruner's own tests try them through it."""

from __future__ import annotations

import pytest
from torch import nn

from gpmt.core.schedule.schedule import ACDC, OneShot
from gpmt.errors import BudgetError, ScopeError
from gpmt.pruner.arguments import check_types, spelled, steps_per_unit


def test_a_model_and_a_schedule_are_accepted() -> None:
    check_types(nn.Linear(1, 1), OneShot(0.5))


@pytest.mark.parametrize("schedule", [0.8, "90%", None, OneShot])
def test_what_is_no_schedule_is_refused(schedule: object) -> None:
    with pytest.raises(
        BudgetError, match=r"but must be a OneShot, Gradual or ACDC; gpmt\.OneShot\(0\.[89]\) prunes"
    ):
        check_types(nn.Linear(1, 1), schedule)


def test_what_is_no_module_is_refused() -> None:
    with pytest.raises(
        ScopeError, match=r"model is of type dict, but a Pruner needs an nn\.Module; gpmt\.prune_"
    ):
        check_types({}, OneShot(0.5))


def test_a_schedule_in_epochs_needs_whole_steps_in_each() -> None:
    assert steps_per_unit(OneShot(0.5), None) == 1
    assert steps_per_unit(ACDC(0.5), 7) == 7
    for wrong in (None, 0, 2.5):
        with pytest.raises(
            BudgetError, match=f"steps_per_epoch is {wrong}, but the schedule counts in epochs"
        ):
            steps_per_unit(ACDC(0.5), wrong)  # type: ignore[arg-type]


def test_patterns_are_spelled_as_strings() -> None:
    assert spelled(None) is None
    assert spelled(["layer1.*", nn.Linear]) == ["layer1.*", "type:Linear"]
