"""What soft masks keep: states, copies and averages, and what is written to the model between steps."""

from __future__ import annotations

import copy
import io
import itertools
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.pruner.methods.soft_runs import METHODS, NUMEL, Net, Run, assert_same, loss_at
from torch import nn
from torch.optim.swa_utils import AveragedModel

import gpmt
from gpmt.core.schedule.schedule import ACDC, Gradual, OneShot, Schedule
from gpmt.errors import MaskError, WeightsError


@pytest.mark.parametrize("method", METHODS[:3], ids=str)
@pytest.mark.parametrize("at", [1, 5])
@pytest.mark.parametrize(
    "schedule",
    [
        Gradual(0.9, start=2, end=4),
        ACDC(0.8, start=1, period=4, sparse=2, last_restore=3, end=6, unit="step"),
    ],
    ids=["gradual", "acdc"],
)
def test_a_run_that_is_resumed_ends_with_the_same_bits(
    method: gpmt.Method, at: int, schedule: Schedule
) -> None:
    whole = Run(method, schedule).steps(at)
    file = io.BytesIO()
    parts = {"model": whole.model, "optimizer": whole.optimizer, "pruner": whole.pruner}
    torch.save({name: part.state_dict() for name, part in parts.items()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    resumed = Run(method, schedule, model=Net(seed=1))
    resumed.model.load_state_dict(saved["model"])
    resumed.optimizer.load_state_dict(saved["optimizer"])
    resumed.pruner.load_state_dict(saved["pruner"])
    resumed.done = at
    assert_same(whole, resumed)
    assert_same(whole.steps(7 - at), resumed.steps(7 - at))


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda parts: pickle.loads(pickle.dumps(parts))], ids=["deepcopy", "pickle"]
)
@pytest.mark.parametrize("at", [0, 3])
def test_copies_go_on_as_the_originals(duplicate: Callable[[Any], Any], at: int) -> None:
    run = Run().steps(at)
    twin = Run()
    twin.model, twin.optimizer, twin.pruner = duplicate((run.model, run.optimizer, run.pruner))
    twin.done = at
    before = run.tensors()
    assert twin.pruner.masks == run.pruner.masks
    twin.steps(4)
    assert all(torch.equal(value, before[name]) for name, value in run.tensors().items())
    assert_same(run.steps(4), twin)


def test_averages_are_zero_where_the_model_is() -> None:
    run = Run(schedule=Gradual(0.9, end=4, initial=0.2))
    average = AveragedModel(run.model)
    run.pruner.track(average)
    for _ in range(7):
        run.steps()
        for _ in range(2):  # before and after it is updated
            assert run.pruner.masks is not None
            for name, mask in run.pruner.masks.items():
                assert not average.module.get_parameter(name)[~mask].any()
            average.update_parameters(run.model)
    assert not torch.equal(average.module.head.weight, run.model.head.weight)


def test_the_network_is_dense_until_the_first_event_and_between_those_of_acdc() -> None:
    run = Run(schedule=ACDC(0.8, start=1, period=4, sparse=2, last_restore=3, end=6, unit="step"))
    counts = []
    for _ in range(8):
        counts.append(sum(int((w == 0).sum()) for n, w in run.model.named_parameters() if w.ndim > 1))
        assert (run.pruner.masks is None) == (counts[-1] == 0)
        assert (run.pruner.plan is None) == (counts[-1] == 0)
        run.steps()
    pruned = int(0.8 * NUMEL)
    assert counts == [0, pruned, pruned, 0, 0, 0, pruned, pruned]


def test_the_dense_weights_come_back_where_acdc_lifts_the_masks() -> None:
    run = Run(schedule=ACDC(0.8, start=0, period=4, sparse=2, last_restore=2, end=6, unit="step"))
    dense = Net()
    run.steps(2)
    for name in ("conv.weight", "head.weight"):
        weight = run.model.get_parameter(name)
        assert (weight != 0).all()
        assert (
            torch.nn.functional.cosine_similarity(
                weight.flatten(), dense.get_parameter(name).flatten(), dim=0
            )
            > 0.5
        )


def test_finish_leaves_a_plain_sparse_network_under_hard_masks() -> None:
    run = Run().steps(6)
    weights = {name: p.detach().clone() for name, p in run.model.named_parameters()}
    masks = run.pruner.masks
    assert masks is not None
    run.pruner.finish()
    assert all(torch.equal(p, weights[name]) for name, p in run.model.named_parameters())
    assert run.dense() == {}
    run.steps(3)
    assert run.pruner.masks == masks
    for name, mask in masks.items():
        weight = run.model.get_parameter(name)
        assert torch.equal(weight != 0, mask)
        assert not run.optimizer.state[weight]["momentum_buffer"][~mask].any()
    state = run.pruner.state_dict()
    other = Run()
    other.model.load_state_dict(run.model.state_dict())
    other.pruner.load_state_dict(state)
    assert other.pruner.masks == masks
    other.steps(2)
    assert other.pruner.masks == masks
    run.pruner.masks = None  # may be set by now


def test_close_finishes() -> None:
    run = Run().steps(5)
    weights = run.model.state_dict()
    run.pruner.close()
    assert run.pruner.finished
    assert run.pruner.state_dict()["method"] == {"finished": True}
    assert all(torch.equal(value, weights[name]) for name, value in run.model.state_dict().items())
    run.pruner.close()


def test_what_is_written_to_the_model_between_steps_counts() -> None:
    """The rest of the dense weights stays: an average that is swapped in and out leaves no trace."""
    run, twin = Run().steps(5), Run().steps(5)
    held = {name: value.clone() for name, value in run.model.state_dict().items()}
    with torch.no_grad():
        for parameter in run.model.parameters():
            parameter.add_(1)
    run.model.load_state_dict(held)
    assert_same(run.steps(2), twin.steps(2))
    with torch.no_grad():
        run.model.head.weight[0] = 5.0
    before = run.dense()["head.weight"]
    assert (before[0] == 5).all()
    assert torch.equal(before[1:], twin.dense()["head.weight"][1:])
    run.steps()
    assert (run.model.head.weight[0] != 0).all()


def test_a_model_that_is_cast_stays_soft() -> None:
    run = Run().steps(4)
    run.model.double()
    dense = run.dense()
    assert dense["head.weight"].dtype == torch.float64
    pruned = dense["head.weight"][run.model.head.weight == 0]
    assert (pruned != 0).all()
    images = torch.randn(3, 1, 4, 4).double()
    run.optimizer.zero_grad()
    run.model(images).square().sum().backward()
    run.optimizer.step()
    run.assert_exact(int(0.9 * NUMEL))


def test_layers_may_come_but_not_go() -> None:
    model = nn.Sequential(nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    pruner = gpmt.Pruner(model, optimizer, schedule=OneShot(0.5), method="st-3")
    model.append(nn.Linear(8, 8, bias=False))
    optimizer.add_param_group({"params": model[2].parameters()})
    for _ in range(2):
        model(torch.ones(1, 8)).sum().backward()
        optimizer.step()
    assert sum(int((p == 0).sum()) for p in model.parameters()) == 96
    assert pruner.masks is not None
    assert list(pruner.masks) == ["0.weight", "1.weight", "2.weight"]
    del model[2]
    with pytest.raises(MaskError, match=r"2\.weight is pruned, but is no longer a parameter of the model"):
        optimizer.step()


def test_a_frozen_tensor_is_pruned_as_the_threshold_moves() -> None:
    model = Net()
    model.conv.weight.requires_grad_(False)
    with torch.no_grad():
        model.conv.weight.mul_(0.5)
    run = Run(model=model).steps(6)
    run.assert_exact(int(0.9 * NUMEL))
    assert torch.equal(run.dense()["conv.weight"], Net().conv.weight * 0.5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_types_are_exact_too(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16, dtype=dtype)).to(dtype)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for method in ("feather", "st-3"):
        pruner = gpmt.Pruner(model, optimizer, schedule=OneShot(0.75), method=method)
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.ones(2, 16, dtype=dtype)).square().sum().backward()
            optimizer.step()
            assert pruner.masks is not None
            assert pruner.masks.total_pruned == 384
            assert all(torch.equal(model.get_parameter(n) != 0, mask) for n, mask in pruner.masks.items())
        pruner.close()


def test_channels_last_weights_give_the_same_network() -> None:
    plain = Run("st-3").steps(5)
    last = Run("st-3", model=Net().to(memory_format=torch.channels_last))
    last.steps(5)
    assert last.pruner.masks == plain.pruner.masks
    torch.testing.assert_close(last.model.conv.weight, plain.model.conv.weight.contiguous())


def test_a_compiled_model_trains_alike() -> None:
    plain, compiled = Run().steps(5), Run()
    network = torch.compile(compiled.model, backend="eager")
    pruner = compiled.pruner
    for step in range(5):
        compiled.optimizer.zero_grad()
        loss_at(network, step).backward()
        compiled.optimizer.step()
    assert_same(plain, compiled)
    assert pruner.step_count == 5


def test_weights_that_are_not_finite_are_named() -> None:
    run = Run().steps(3)
    run.optimizer.zero_grad()
    (loss_at(run.model, 3) * torch.nan).backward()
    with pytest.raises(WeightsError, match=r"conv\.weight has 72 NaN or infinite of 72 weights"):
        run.optimizer.step()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("dense"), "the state of the method has the keys"),
        (
            lambda state: state["dense"].update({"head.weight": torch.zeros(2, 2)}),
            r"the state has dense weights of head\.weight in the shape \[2, 2\]",
        ),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(change: Callable[[Any], Any], message: str) -> None:
    run = Run().steps(3)
    state = run.pruner.state_dict()
    change(state["method"])
    before = run.tensors()
    with pytest.raises(MaskError, match=message):
        run.pruner.load_state_dict(state)
    assert all(torch.equal(value, before[name]) for name, value in run.tensors().items())


def test_a_snapshot_does_not_change_with_the_run() -> None:
    run = Run().steps(3)
    state = run.pruner.state_dict()
    kept = copy.deepcopy(state)
    run.steps(2)
    for name, tensor in kept["method"]["dense"].items():
        assert torch.equal(state["method"]["dense"][name], tensor)


def test_methods_end_at_other_networks() -> None:
    ends = [Run(method).steps(5).model.head.weight for method in METHODS]
    assert all(not torch.equal(one, other) for one, other in itertools.combinations(ends, 2))
