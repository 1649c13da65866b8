"""A run that is saved, loaded into new objects and continued equals the uninterrupted one, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gpmt.core.schedule.schedule import ACDC, Gradual, OneShot, Schedule
from gpmt.errors import MaskError
from gpmt.pruner.pruner import Pruner

TOTAL = 12
SCHEDULES: dict[str, tuple[Schedule, dict[str, Any]]] = {
    "one-shot": (OneShot(0.9), {"min_kept": "0.5%"}),
    "one-shot-later": (OneShot(0.9, at=6), {}),
    "gradual": (Gradual(0.9, start=0, end=9, interval=2, initial=0.2), {"min_kept": 5}),
    "gradual-epochs": (Gradual(0.8, start=1, end=4, unit="epoch"), {"steps_per_epoch": 2}),
    "acdc": (ACDC(0.8, start=1, period=4, sparse=2, last_restore=7, end=9, unit="step"), {}),
    "acdc-from-0": (ACDC(0.8, start=0, period=4, sparse=2, last_restore=6, end=9, unit="step"), {}),
    "random": (
        Gradual(0.9, end=8),
        {"allocation": "random", "seed": 7, "exclude": ["head", "type:BatchNorm2d"]},
    ),
}


def save(run: Any, path: Path) -> None:
    states = {"model": run.model, "optimizer": run.optimizer, "pruner": run.pruner}
    torch.save({name: part.state_dict() for name, part in states.items()}, path)


def load(run: Any, path: Path) -> None:
    saved = torch.load(path, weights_only=True)
    run.model.load_state_dict(saved["model"])
    run.optimizer.load_state_dict(saved["optimizer"])
    run.pruner.load_state_dict(saved["pruner"])


@pytest.mark.parametrize("at", [1, 4, 7, 8, 11])
@pytest.mark.parametrize("name", SCHEDULES)
def test_resume_equals_uninterrupted(toy: Any, tmp_path: Path, name: str, at: int) -> None:
    schedule, options = SCHEDULES[name]
    whole = toy.start(schedule, **options).steps(at)
    save(whole, tmp_path / "state.pt")
    whole.steps(TOTAL - at)
    # Other weights: what the new Pruner prunes at construction must not show.
    resumed = toy.start(schedule, weights=1, **options)
    load(resumed, tmp_path / "state.pt")
    assert resumed.pruner.step_count == at
    resumed.steps(TOTAL - at)
    toy.assert_same(whole, resumed)
    assert whole.pruner.masks is not None
    resumed.assert_zero_where_pruned()


def test_resume_with_every_optimiser(
    toy: Any, tmp_path: Path, make: Callable[..., torch.optim.Optimizer]
) -> None:
    schedule = Gradual(0.9, end=9, interval=2)
    whole = toy.start(schedule, make=make).steps(5)
    save(whole, tmp_path / "state.pt")
    whole.steps(7)
    resumed = toy.start(schedule, make=make, weights=1)
    load(resumed, tmp_path / "state.pt")
    toy.assert_same(whole, resumed.steps(7))


def test_resume_where_the_model_was_loaded_first(toy: Any, tmp_path: Path) -> None:
    """One-shot pruning of weights that it has pruned already finds the same zeros."""
    whole = toy.start(OneShot(0.9)).steps(3)
    save(whole, tmp_path / "state.pt")
    saved = torch.load(tmp_path / "state.pt", weights_only=True)
    model = toy.model(1)
    model.load_state_dict(saved["model"])
    resumed = toy.start(OneShot(0.9), model=model)
    resumed.optimizer.load_state_dict(saved["optimizer"])
    resumed.pruner.load_state_dict(saved["pruner"])
    toy.assert_same(whole.steps(3), resumed.steps(3))


def test_loaded_masks_are_enforced_at_once(toy: Any, tmp_path: Path) -> None:
    """Also where the weights that were loaded are not those of the masks."""
    sparse = toy.start(OneShot(0.9)).steps(2)
    state = sparse.pruner.state_dict()
    other = toy.start(OneShot(0.9), weights=1).steps(2)
    other.pruner.load_state_dict(state)
    assert other.pruner.masks == sparse.pruner.masks
    assert other.pruner.plan is None
    other.assert_zero_where_pruned()
    assert other.zeros() > 0.9 * toy.numel


def test_loading_a_dense_state_lifts_the_masks(toy: Any) -> None:
    dense = toy.start(OneShot(0.9, at=5)).steps(2).pruner.state_dict()
    run = toy.start(OneShot(0.9, at=5)).steps(6)
    run.pruner.load_state_dict(dense)
    assert run.pruner.masks is None
    assert run.pruner.step_count == 2
    assert run.steps(2).pruner.masks is None
    assert run.steps(1).zeros() == 0.9 * toy.numel


def test_state_is_a_snapshot(toy: Any) -> None:
    run = toy.start(Gradual(0.9, end=4, initial=0.1)).steps(1)
    state = run.pruner.state_dict()
    masks = run.pruner.masks
    run.steps(3)
    fresh = toy.start(Gradual(0.9, end=4, initial=0.1))
    fresh.pruner.load_state_dict(state)
    assert fresh.pruner.masks == masks


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"schedule": OneShot(0.8)},
            r"schedule=\{'kind': 'OneShot', 'sparsity': '9/10'.* but this Pruner has .*'4/5'",
        ),
        ({"schedule": OneShot("90%"), "min_kept": 3}, "min_kept='0', but this Pruner has '3'"),
        ({"schedule": OneShot(0.9), "exclude": "head"}, r"exclude=\[\], but this Pruner has \['head'\]"),
        ({"schedule": OneShot(0.9), "allocation": "erk"}, "allocation='exact', but this Pruner has 'erk'"),
    ],
)
def test_other_settings_are_refused(toy: Any, options: dict[str, Any], message: str) -> None:
    state = toy.start(OneShot(0.9)).pruner.state_dict()
    other = toy.start(options.pop("schedule"), **options)
    masks = other.pruner.masks
    with pytest.raises(MaskError, match=message):
        other.pruner.load_state_dict(state)
    assert other.pruner.masks is masks


def test_other_steps_per_epoch_are_refused(toy: Any) -> None:
    state = toy.start(OneShot(0.9, unit="epoch"), steps_per_epoch=5).pruner.state_dict()
    other = toy.start(OneShot(0.9, unit="epoch"), steps_per_epoch=6)
    with pytest.raises(MaskError, match="steps_per_unit=5, but this Pruner has 6"):
        other.pruner.load_state_dict(state)


def test_another_granularity_is_refused(toy: Any) -> None:
    state = toy.start(OneShot(0.5), scope="type:Linear").pruner.state_dict()
    other = toy.start(OneShot(0.5), scope="type:Linear", granularity="column")
    with pytest.raises(MaskError, match="granularity='weight', but this Pruner has 'column'"):
        other.pruner.load_state_dict(state)


def test_equal_settings_in_another_spelling_are_accepted(toy: Any) -> None:
    state = toy.start(OneShot(0.9), exclude=("type:Linear",)).pruner.state_dict()
    toy.start(OneShot("90%"), exclude=torch.nn.Linear).pruner.load_state_dict(state)


def test_masks_of_another_network_are_refused(toy: Any) -> None:
    state = toy.start(OneShot(0.9)).pruner.state_dict()
    other = torch.nn.Sequential(torch.nn.Linear(10, 10))
    pruner = Pruner(other, torch.optim.SGD(other.parameters()), schedule=OneShot(0.9))
    with pytest.raises(MaskError, match=r"stem\.weight"):
        pruner.load_state_dict(state)
    assert list(pruner.masks or ()) == ["0.weight"]


@pytest.mark.parametrize("state", [{}, {"version": 2}, {"version": 1}, {"state": {}, "param_groups": []}])
def test_a_state_that_is_not_a_pruners_is_refused(toy: Any, state: dict[str, Any]) -> None:
    with pytest.raises(MaskError, match=r"this gpmt loads version 1 of what Pruner\.state_dict\(\) returns"):
        toy.start(OneShot(0.9)).pruner.load_state_dict(state)
