"""A training that ends before its schedule does not end in silence."""

from __future__ import annotations

from typing import Any

import pytest

from gpmt.core.schedule.schedule import ACDC, Gradual, OneShot
from gpmt.warning import GpmtWarning


def test_a_schedule_that_did_not_end_is_a_warning(toy: Any) -> None:
    run = toy.start(Gradual(0.8, end=100)).steps(16)
    with pytest.warns(
        GpmtWarning,
        match=r"^training ended after 16 of the 100 steps of the schedule: the network is 32\.57% sparse, not "
        r"80\.00%; train longer, or let the schedule end earlier$",
    ) as caught:
        run.pruner.close()
    assert caught[0].filename == __file__
    run.pruner.close()  # once is enough
    run.steps(1)
    assert run.pruner.step_count == 16


def test_a_network_that_is_dense_at_the_end_is_called_so(toy: Any) -> None:
    run = toy.start(ACDC.over(0.9, 10), steps_per_epoch=2).steps(3)
    with pytest.warns(
        GpmtWarning, match=r"after 3 of the 14 steps of the schedule: the network is dense, not 90"
    ):
        run.pruner.close()


@pytest.mark.parametrize("schedule", [OneShot(0.9), Gradual(0.8, end=3)])
def test_a_schedule_that_ended_is_none(toy: Any, schedule: Any) -> None:
    run = toy.start(schedule).steps(3)
    run.pruner.close()
    run.steps(1)
    assert run.pruner.step_count == 3


def test_a_pruner_that_was_detached_before_says_nothing(toy: Any) -> None:
    run = toy.start(Gradual(0.8, end=9)).steps(3)
    run.pruner.detach()
    run.pruner.close()
