"""Plans: their tables, JSON, threshold and masks."""

import json

import torch
from tests.core.networks import small_network

import gpmt


def test_planning_changes_nothing():
    model = small_network()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    gpmt.plan(model, sparsity=0.5).masks()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_masks_are_kept_after_pruning():
    model = small_network()
    plan = gpmt.prune_(model, sparsity=0.9)
    assert plan.masks() is plan.masks()
    assert plan.masks().total_pruned == 482
    plan.masks().fits(model)


def test_the_table_marks_floors_that_bind():
    plan = gpmt.plan(small_network(), sparsity=0.9, min_kept=25)
    lines = str(plan).splitlines()
    assert lines[0].split() == ["tensor", "shape", "weights", "kept", "density"]
    assert len(lines) == 5
    assert [row.binds for row in plan.tensors] == ["*" in line for line in lines[1:3]]
    assert "482 of 536 weights pruned" in lines[-1]
    assert f"{plan.pruned:,} of" in repr(plan)


def test_the_plan_as_json():
    data = json.loads(json.dumps(gpmt.plan(small_network(), sparsity="90%", min_kept=5).to_dict()))
    assert data["pruned"] == 482
    assert sum(row["kept"] for row in data["tensors"]) == data["kept"] == 54
    assert data["tensors"][0]["shape"] == [8, 3, 3, 3]


def test_only_global_rankings_have_a_threshold():
    model = small_network()
    assert gpmt.plan(model, sparsity=0.5, allocation="uniform").threshold is None
    assert gpmt.plan(model, sparsity=0.5, allocation="random").threshold is None
    threshold = gpmt.plan(model, sparsity=0.5).threshold
    weights = torch.cat([model[0].weight.flatten(), model[4].weight.flatten()]).abs()
    assert int((weights >= threshold).sum()) == 268
