"""Masks that are given in place of a schedule: applied at once, and in force for ever."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from gpmt.core.schedule.schedule import OneShot
from gpmt.errors import BudgetError, MaskError, ScopeError
from gpmt.masks import Masks
from gpmt.prune import plan
from gpmt.pruner.pruner import Pruner


def random_masks(toy: Any, seed: int = 1, **options: Any) -> Masks:
    return plan(toy.model(), sparsity=0.7, allocation="random", seed=seed, **options).masks()


def test_given_masks_are_in_force_from_the_start(
    toy: Any, make: Callable[..., torch.optim.Optimizer]
) -> None:
    masks = random_masks(toy, exclude="head")
    run = toy.start(None, masks=masks, make=make)
    assert run.pruner.masks is masks
    assert (run.pruner.schedule, run.pruner.plan, run.pruner.finished) == (None, None, True)
    run.assert_zero_where_pruned()
    dense = run.model.head.weight.detach().clone()
    run.steps(3)
    assert run.assert_zero_where_pruned() > len(masks)
    assert run.pruner.step_count == 3
    assert bool(run.model.head.weight.all())
    assert not torch.equal(run.model.head.weight, dense)
    run.pruner.close()  # without a warning


def test_the_run_equals_one_whose_schedule_found_these_masks(toy: Any) -> None:
    scheduled = toy.start(OneShot(0.9), min_kept=5)
    given = toy.start(None, masks=scheduled.pruner.masks)
    toy.assert_same(scheduled.steps(4), given.steps(4))


def test_masks_of_parameters_out_of_the_scope_of_plans(toy: Any) -> None:
    run = toy.start(None, masks=Masks.from_dense({"head.bias": torch.arange(10) < 4}))
    run.steps(2).assert_zero_where_pruned()
    assert run.model.head.bias.count_nonzero() == 4


def test_resuming_is_exact(toy: Any, tmp_path: Path, make: Callable[..., torch.optim.Optimizer]) -> None:
    masks = random_masks(toy)
    whole = toy.start(None, masks=masks, make=make).steps(3)
    parts = (whole.model, whole.optimizer, whole.pruner)
    torch.save([part.state_dict() for part in parts], tmp_path / "state.pt")
    resumed = toy.start(None, masks=masks, make=make, weights=1)
    saved = torch.load(tmp_path / "state.pt", weights_only=True)
    for part, state in zip((resumed.model, resumed.optimizer, resumed.pruner), saved, strict=True):
        part.load_state_dict(state)
    assert resumed.pruner.step_count == 3
    toy.assert_same(whole.steps(3), resumed.steps(3))


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda parts: pickle.loads(pickle.dumps(parts))])
def test_copies_go_on(toy: Any, duplicate: Callable[[Any], Any]) -> None:
    run = toy.start(None, masks=random_masks(toy)).steps(2)
    twin = toy.run(*duplicate((run.model, run.optimizer, run.pruner)))
    toy.assert_same(run.steps(2), twin.steps(2))


def test_a_state_of_other_masks_or_of_a_schedule_is_refused(toy: Any) -> None:
    masks = random_masks(toy)
    run, other = toy.start(None, masks=masks), toy.start(None, masks=random_masks(toy, 2))
    with pytest.raises(
        MaskError, match=rf"saved with masks='{masks.digest()}', but this Pruner has '.*make it"
    ):
        other.pruner.load_state_dict(run.pruner.state_dict())
    scheduled = toy.start(OneShot(0.7))
    with pytest.raises(MaskError, match=r"saved with schedule=None, but this Pruner has \{'kind': 'OneShot'"):
        scheduled.pruner.load_state_dict(run.pruner.state_dict())
    with pytest.raises(MaskError, match=r"saved with schedule=\{'kind'.*, but this Pruner has None"):
        run.pruner.load_state_dict(scheduled.pruner.state_dict())
    assert run.pruner.masks is masks


def test_masks_that_are_set_later_are_saved_and_loaded(toy: Any) -> None:
    given, later = random_masks(toy), random_masks(toy, 2)
    run = toy.start(None, masks=given)
    run.pruner.masks = later
    run.steps(2)
    other = toy.start(None, masks=given)
    other.pruner.load_state_dict(run.pruner.state_dict())
    assert other.pruner.masks == later
    other.steps(1).assert_zero_where_pruned()


def test_a_state_from_before_masks_could_be_given_still_loads(toy: Any) -> None:
    state = toy.start(OneShot(0.7)).steps(1).pruner.state_dict()
    del state["settings"]["masks"]
    run = toy.start(OneShot(0.7), weights=1)
    run.pruner.load_state_dict(state)
    assert run.pruner.step_count == 1


def test_averages_are_pruned_too(toy: Any) -> None:
    run = toy.start(None, masks=random_masks(toy))
    average = AveragedModel(run.model)
    run.pruner.track(average)
    run.steps(1)
    average.update_parameters(run.model)
    assert not any(
        bool(average.module.get_parameter(name)[~mask].any()) for name, mask in run.pruner.masks.items()
    )
    with pytest.raises(MaskError, match="Linear is not an average of the model"):
        run.pruner.track(nn.Linear(2, 2))


def test_masks_may_have_the_names_of_a_wrapped_model(toy: Any) -> None:
    masks = random_masks(toy)
    wrapped = Masks.from_dense({f"module._orig_mod.{name}": mask for name, mask in masks.items()})
    run = toy.start(None, masks=wrapped)
    assert run.pruner.masks == masks
    assert list(run.pruner.masks) == list(masks)
    run.pruner.masks = wrapped
    run.steps(1).assert_zero_where_pruned()
    model = nn.Sequential(torch.compile(nn.Linear(4, 2)))
    mask = torch.eye(2, 4, dtype=torch.bool)
    pruner = Pruner(model, torch.optim.SGD(model.parameters()), masks=Masks.from_dense({"0.weight": mask}))
    assert list(pruner.masks or ()) == ["0._orig_mod.weight"]
    assert model[0].weight.count_nonzero() == 2


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("scope", "head"),
        ("exclude", "head"),
        ("min_kept", "1%"),
        ("allocation", "erk"),
        ("granularity", "column"),
        ("seed", 3),
    ],
)
def test_options_of_plans_have_no_meaning_with_masks(toy: Any, option: str, value: object) -> None:
    model, masks = toy.model(), random_masks(toy)
    with pytest.raises(
        MaskError,
        match=f"^{option} is {value!r}, but has no meaning with masks, which say already what is pruned; leave it",
    ):
        toy.start(None, model=model, masks=masks, **{option: value})
    assert all(weight.all() for name, weight in model.named_parameters() if name in masks)
    toy.start(None, masks=masks, exclude=None, min_kept=0, steps_per_epoch=4)


def test_either_a_schedule_or_masks(toy: Any) -> None:
    with pytest.raises(
        MaskError,
        match=r"^schedule and masks are both given, but masks that are given stay as they are; leave",
    ):
        toy.start(OneShot(0.5), masks=random_masks(toy))
    with pytest.raises(
        BudgetError, match=r"schedule is None, but must be a .*\(or give masks in its place\)$"
    ):
        toy.start(None)


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        (
            {"head.weight": torch.ones(10, 32, dtype=torch.bool)},
            r"^masks is of type dict, but must be gpmt\.Masks or None; make them of bool tensors with gpmt\.Masks\."
            r"from_dense, or read them from a file with gpmt\.Masks\.load$",
        ),
        ("masks.safetensors", "masks is of type str"),
        (Masks.from_dense({}), "^masks are of no tensor at all; give those of the tensors to prune$"),
        (
            Masks.from_dense({"neck.weight": torch.ones(1, dtype=torch.bool)}),
            r"^masked tensor neck\.weight is missing; these masks belong to another network$",
        ),
        (
            Masks.from_dense({"head.weight": torch.ones(32, 10, dtype=torch.bool)}),
            r"^head\.weight has shape \[10, 32\], but its mask has \[32, 10\]; these masks belong to another",
        ),
        (
            Masks.from_dense(
                dict.fromkeys(("head.weight", "module.head.weight"), torch.ones(10, 32, dtype=torch.bool))
            ),
            r"^head\.weight and module\.head\.weight are both masks of head\.weight; leave one of them out$",
        ),
    ],
)
def test_masks_that_do_not_fit_change_nothing(toy: Any, masks: Any, message: str) -> None:
    model = toy.model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(MaskError, match=message):
        Pruner(model, optimizer, masks=masks)
    assert not optimizer._optimizer_step_post_hooks
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_other_pruners_and_other_optimisers_are_told_as_ever(toy: Any) -> None:
    run = toy.start(None, masks=random_masks(toy, scope="head"))
    with pytest.raises(MaskError, match=r"head\.weight already has a Pruner on this optimizer; detach\(\)"):
        Pruner(run.model, run.optimizer, schedule=OneShot(0.5))
    Pruner(run.model, run.optimizer, schedule=OneShot(0.5), exclude="head")
    model = toy.model()
    with pytest.raises(ScopeError, match="SGD trains none of the 1 prunable tensors"):
        Pruner(
            model,
            torch.optim.SGD(model.stem.parameters(), lr=0.1),
            masks=random_masks(toy, scope="head"),
        )
