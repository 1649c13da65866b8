"""What the Pruner prunes, and requests that it refuses."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from gpmt.core.schedule.schedule import ACDC, Gradual, OneShot
from gpmt.errors import BudgetError, GpmtError, MaskError, ScopeError, WeightsError
from gpmt.pruner.pruner import Pruner


def test_floors_and_scope_reach_the_plan(toy: Any) -> None:
    run = toy.start(OneShot(0.9), min_kept="1%", exclude="type:Linear", allocation="exact")
    masks = run.pruner.masks
    assert list(masks) == ["stem.weight", "depthwise.weight", "pointwise.weight"]
    assert masks.total_pruned == 0.9 * 400
    assert all(masks.kept(name) >= 4 for name in masks)
    assert run.pruner.plan.min_kept == 4
    run.steps(2).assert_zero_where_pruned()


@pytest.mark.filterwarnings("ignore::gpmt.warning.GpmtWarning")  # of 68 outputs with few weights
def test_an_automatic_minimum_is_that_of_the_largest_sparsity(toy: Any) -> None:
    run = toy.start(Gradual(0.96, end=4), min_kept="auto", exclude="head")
    for _ in range(4):
        run.step()
        assert run.pruner.plan.min_kept == 8  # 3/4 of 44 in 4 tensors; half of 1,080 alone: 10
    assert run.pruner.state_dict()["settings"]["min_kept"] == "8"


@pytest.mark.parametrize("allocation", ["exact", "uniform", "erk", "lamp", "random"])
def test_every_allocation_trains(toy: Any, allocation: Any) -> None:
    run = toy.start(Gradual(0.8, end=4), allocation=allocation, seed=3).steps(6)
    assert run.pruner.masks.total_pruned == 0.8 * toy.numel
    run.assert_zero_where_pruned()


def test_two_pruners_share_an_optimizer_but_no_tensor(toy: Any) -> None:
    run = toy.start(OneShot(0.9), exclude="head")
    with pytest.raises(
        MaskError, match=r"depthwise\.weight already has a Pruner on this optimizer; detach\(\)"
    ):
        Pruner(run.model, run.optimizer, schedule=OneShot(0.5), scope=["depthwise", "head"])
    second = Pruner(run.model, run.optimizer, schedule=OneShot(0.5), scope="head")
    run.step()
    assert int((run.model.head.weight == 0).sum()) == second.masks.total_pruned == 160
    run.assert_zero_where_pruned()
    run.pruner.detach()
    Pruner(run.model, run.optimizer, schedule=OneShot(0.5), exclude="head")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"schedule": OneShot(0.5, unit="epoch")},
            BudgetError,
            "steps_per_epoch is None, but the schedule counts in",
        ),
        ({"schedule": ACDC(0.5), "steps_per_epoch": 0}, BudgetError, "steps_per_epoch is 0, but"),
        ({"schedule": ACDC(0.5), "steps_per_epoch": 2.5}, BudgetError, "steps_per_epoch is 2.5, but"),
        (
            {"schedule": 0.8},
            BudgetError,
            r"schedule is 0\.8, but must be a OneShot, Gradual or ACDC; gpmt\.OneShot\(0\.8\) prunes at once",
        ),
        ({"schedule": None}, BudgetError, r"schedule is None, but must be a OneShot"),
        ({"schedule": Gradual(0.99, end=9), "min_kept": 10}, BudgetError, "needs 50"),
        ({"schedule": Gradual(0.9, end=9), "allocation": "best"}, GpmtError, "best"),
        ({"schedule": OneShot(0.9), "scope": "nothing"}, ScopeError, "nothing"),
    ],
)
def test_impossible_requests_fail_at_construction(
    toy: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    model = toy.model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(error, match=message):
        Pruner(model, optimizer, **options)
    assert not optimizer._optimizer_step_post_hooks
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_model_that_is_none_is_refused(toy: Any) -> None:
    model = toy.model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(
        ScopeError, match=r"model is of type OrderedDict, but a Pruner needs an nn\.Module; gpmt\."
    ):
        Pruner(model.state_dict(), optimizer, schedule=OneShot(0.9))


def test_a_schedule_that_starts_later_reads_no_weight_at_construction(toy: Any) -> None:
    """What is not used is not selected; NaN is found at the pruning."""
    model = toy.model()
    with torch.no_grad():
        model.scale.weight.fill_(math.nan)
    run = toy.start(Gradual(0.9, end=2), model=model)
    with pytest.raises(WeightsError, match=r"weight has [\d,]+ NaN"):
        run.steps(1)


def test_diverged_weights_are_an_error_at_the_pruning(toy: Any) -> None:
    run = toy.start(Gradual(0.9, end=2, initial=0.1))
    with torch.no_grad():
        run.model.scale.weight.fill_(math.nan)
    with pytest.raises(WeightsError, match=r"scale\.weight has [\d,]+ NaN"):
        run.optimizer.step()
