"""A Pruner made after everything was loaded goes on where the saved one was."""

import copy

import pytest
import torch
from torch.nn import functional as F

import gpmt
from gpmt.errors import BudgetError, MaskError
from gpmt.integrations.start import start


def steps(model, optimizer, data, pruner, count):
    for _ in range(count):
        images, labels = data[4 * (pruner.step_count % 8) : 4 * (pruner.step_count % 8) + 4]
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()


@pytest.mark.parametrize("at", [3, 18, 35])
def test_equals_uninterrupted(toy, schedule, at):
    settings = {"schedule": schedule, "min_kept": 5}
    if schedule.unit == "epoch":
        settings["steps_per_epoch"] = 8
    model, data = toy.net(), toy.data()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    pruner = start(model, optimizer, **settings)
    steps(model, optimizer, data, pruner, at)
    loaded = copy.deepcopy(model)
    loaded_optimizer = torch.optim.SGD(loaded.parameters(), lr=0.1, momentum=0.9)
    loaded_optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    resumed = start(loaded, loaded_optimizer, state=copy.deepcopy(pruner.state_dict()), **settings)
    assert resumed.schedule is schedule
    toy.assert_same(model, loaded)
    steps(model, optimizer, data, pruner, 40 - at)
    steps(loaded, loaded_optimizer, data, resumed, 40 - at)
    toy.assert_same(model, loaded)
    assert pruner.masks == resumed.masks


def test_other_settings_are_refused(toy, schedule):
    model = toy.net()
    optimizer = torch.optim.SGD(model.parameters())
    state = start(model, optimizer, schedule=schedule, steps_per_epoch=8, min_kept=6).state_dict()
    other = toy.net()
    with pytest.raises(MaskError, match="min_kept='6', but this Pruner has '5'"):
        start(
            other,
            torch.optim.SGD(other.parameters()),
            schedule=schedule,
            steps_per_epoch=8,
            state=state,
            min_kept=5,
        )


@pytest.mark.parametrize("at", [0, 3])
def test_given_masks_equal_uninterrupted(toy, at):
    model, data = toy.net(), toy.data()
    masks = gpmt.plan(model, sparsity=0.7, allocation="random").masks()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    pruner = start(model, optimizer, masks=masks, steps_per_epoch=8)
    steps(model, optimizer, data, pruner, at)
    loaded = copy.deepcopy(model)
    loaded_optimizer = torch.optim.SGD(loaded.parameters(), lr=0.1, momentum=0.9)
    loaded_optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    state = copy.deepcopy(pruner.state_dict())
    resumed = start(loaded, loaded_optimizer, state=state, masks=masks, steps_per_epoch=8)
    assert (resumed.schedule, resumed.step_count) == (None, at)
    steps(model, optimizer, data, pruner, 5)
    steps(loaded, loaded_optimizer, data, resumed, 5)
    toy.assert_same(model, loaded)
    assert pruner.masks == resumed.masks == masks


def test_without_a_schedule_or_masks_the_pruner_says_so(toy):
    model = toy.net()
    with pytest.raises(
        BudgetError, match=r"^schedule is None, but must be a .*\(or give masks in its place\)$"
    ):
        start(model, torch.optim.SGD(model.parameters()), state={})
