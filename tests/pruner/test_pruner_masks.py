"""Masks may be set: each time they are checked, applied, and enforced from then on."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.optim.swa_utils import AveragedModel

from gpmt.core.schedule.schedule import Gradual, OneShot
from gpmt.errors import MaskError
from gpmt.masks import Masks
from gpmt.prune import plan


def test_masks_that_are_set_are_in_force_every_time(toy: Any) -> None:
    run = toy.start(OneShot(0.5))
    average = AveragedModel(run.model)
    run.pruner.track(average)
    for sparsity, seed in ((0.6, 1), (0.8, 2), (0.7, 3)):
        before = run.pruner.masks["head.weight"]
        masks = plan(toy.model(), sparsity=sparsity, allocation="random", seed=seed).masks()
        run.pruner.masks = masks
        assert run.pruner.masks is masks
        assert run.pruner.plan is None
        assert not any(bool(average.module.get_parameter(n)[~mask].any()) for n, mask in masks.items())
        run.assert_zero_where_pruned()
        run.steps(2).assert_zero_where_pruned()
        free = masks["head.weight"] & ~before
        assert bool(run.model.head.weight.detach()[free].any())  # what the last masks pruned trains again


def test_masks_may_be_lifted(toy: Any) -> None:
    run = toy.start(OneShot(0.9)).steps(1)
    run.pruner.masks = None
    run.steps(2)
    assert run.pruner.masks is None
    assert run.zeros() < 0.3 * toy.numel


def test_the_next_event_takes_the_place_of_masks_that_were_set(toy: Any) -> None:
    run = toy.start(Gradual(0.9, end=3, initial=0.5)).steps(1)
    run.pruner.masks = plan(run.model, sparsity=0.95).masks()
    run.steps(2)
    assert run.pruner.masks.total_pruned == run.pruner.plan.pruned


def test_masks_that_do_not_fit_are_refused_and_change_nothing(toy: Any) -> None:
    run = toy.start(OneShot(0.9)).steps(1)
    before, masks = run.tensors(), run.pruner.masks
    dense = {"head.weight": torch.ones(10, 32, dtype=torch.bool)}
    for wrong, message in (
        (
            dense,
            r"masks is of type dict, but must be gpmt\.Masks or None; make them of bool tensors with gpmt\.Masks",
        ),
        (Masks.from_dense({"neck.weight": dense["head.weight"]}), r"masked tensor neck\.weight is missing"),
        (
            Masks.from_dense({"head.weight": dense["head.weight"].T}),
            r"head\.weight has shape \[10, 32\], but its",
        ),
    ):
        with pytest.raises(MaskError, match=message):
            run.pruner.masks = wrong
        assert run.pruner.masks is masks
    assert all(torch.equal(value, before[name]) for name, value in run.tensors().items())
    run.steps(1).assert_zero_where_pruned()
