"""What RigL and SET share: when weights are exchanged, how many, and what stays as it is."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import nn

import gpmt
from gpmt.errors import MaskError, MethodError, ScopeError
from gpmt.planning.exchange import Exchange
from gpmt.pruner.methods.dynamic import Dynamic
from gpmt.pruner.methods.registry import method_of

METHODS: dict[str, Any] = {
    "rigl": gpmt.RigL(interval=2, end=9),
    "rigl across": gpmt.RigL(interval=2, end=9, across="network", alpha=0.5),
    "set": gpmt.SET(interval=2, end=9, anneal="constant"),
    "set across": gpmt.SET(interval=2, end=9, across="network"),
    "rigl+ham": gpmt.HAM(inner=gpmt.RigL(interval=2, end=9)),
    "set+ham": gpmt.HAM(alpha=20, inner=gpmt.SET(interval=2, end=9)),
}


def kept(run: Any) -> dict[str, int]:
    return {name: run.pruner.masks.kept(name) for name in run.pruner.masks}


@pytest.mark.parametrize("name", METHODS)
def test_every_update_changes_weights_and_no_count(toy: Any, make: Any, name: str) -> None:
    """The floors hold, and within tensors so do their counts; pruned weights and their state are zero."""
    options = {"min_kept": 20, "allocation": "erk"}
    run = toy.start(gpmt.OneShot(0.8), make=make, method=METHODS[name], **options)
    first, total = kept(run), run.pruner.masks.total_kept
    for step in range(1, 11):
        before = run.pruner.masks
        run.step()
        assert (run.pruner.masks != before) == (step in (2, 4, 6, 8))
        assert run.pruner.masks.total_kept == total
        assert run.pruner.finished == (step >= 8)
        run.assert_zero_where_pruned()
        if "across" in name:
            assert min(kept(run).values()) >= 20
        else:
            assert kept(run) == first
    assert ("across" in name) == (kept(run) != first)


@pytest.mark.parametrize("at", [1, 4, 7])
@pytest.mark.parametrize("name", METHODS)
def test_resume_in_the_middle(toy: Any, name: str, at: int) -> None:
    schedule = gpmt.Gradual(0.9, end=6, interval=2, initial=0.5)
    whole = toy.start(schedule, method=METHODS[name]).steps(at)
    states = copy.deepcopy([part.state_dict() for part in (whole.model, whole.optimizer, whole.pruner)])
    whole.steps(10 - at)
    resumed = toy.start(schedule, weights=1, method=METHODS[name])
    for part, state in zip((resumed.model, resumed.optimizer, resumed.pruner), states, strict=True):
        part.load_state_dict(state)
    toy.assert_same(whole, resumed.steps(10 - at))
    with pytest.raises(MaskError, match="the state was saved with method="):
        toy.start(schedule, method=gpmt.RigL(end=8)).pruner.load_state_dict(states[2])


@pytest.mark.parametrize("name", ["rigl", "set across"])
def test_masks_that_are_given(toy: Any, name: str) -> None:
    """Also of tensors that are in no default scope."""
    model = nn.Sequential(nn.Embedding(6, 8), nn.Linear(8, 8))
    generator = torch.Generator().manual_seed(0)
    masks = gpmt.Masks.from_dense({"0.weight": torch.rand(6, 8, generator=generator) < 0.5})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    pruner = gpmt.Pruner(model, optimizer, masks=masks, method=METHODS[name])
    for _ in range(2):
        model(torch.arange(6)).square().sum().backward()
        optimizer.step()
    assert pruner.masks is not None
    assert pruner.masks != masks
    assert pruner.masks.total_kept == masks.total_kept
    assert not model[0].weight[~pruner.masks["0.weight"]].any()


def test_blocks_keep_their_counts() -> None:
    torch.manual_seed(0)
    model = nn.MultiheadAttention(8, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    pruner = gpmt.Pruner(model, optimizer, schedule=gpmt.OneShot(0.6), method=METHODS["set"])
    exchange = Exchange(model)
    assert len(exchange.floors) == 4

    def counts() -> dict[str, int]:
        assert pruner.masks is not None
        return exchange.kept(pruner.masks)

    before = counts(), pruner.masks
    for _ in range(2):
        x = torch.randn(3, 1, 8)
        model(x, x, x)[0].square().sum().backward()
        optimizer.step()
    assert counts() == before[0]
    assert pruner.masks != before[1]


@pytest.mark.parametrize("name", ["rigl", "set"])
def test_with_a_schedule_that_restores(toy: Any, name: str) -> None:
    """Nothing is exchanged while the network is dense."""
    schedule = gpmt.ACDC(0.8, start=1, period=4, sparse=2, last_restore=3, end=5, unit="step")
    run = toy.start(schedule, method=METHODS[name])
    for step in range(1, 9):
        run.step()
        assert (run.pruner.masks is None) == (step in (3, 4))
    assert run.pruner.masks.total_pruned == 0.8 * toy.numel


def test_frozen_tensors_stay(toy: Any) -> None:
    for name in ("rigl", "set", "rigl across"):
        model = toy.model()
        model.head.weight.requires_grad_(False)
        run = toy.start(gpmt.OneShot(0.5), model=model, method=METHODS[name])
        before = run.pruner.masks
        run.steps(2)
        assert torch.equal(run.pruner.masks["head.weight"], before["head.weight"])
        assert run.pruner.masks != before


def test_the_share_falls_to_nothing() -> None:
    method = gpmt.RigL(alpha=0.4, interval=10, end=100)
    assert [method.updates_at(step) for step in (0, 5, 10, 90, 100, 110)] == [
        False,
        False,
        True,
        True,
        False,
        False,
    ]
    assert method.last == 90
    for step in range(0, 101, 10):
        assert method.share(step) == pytest.approx(0.2 * (1 + math.cos(math.pi * step / 100)), abs=1e-12)
    assert gpmt.SET(alpha=0.4, end=100, anneal="constant").share(90) == 0.4


def test_the_end_is_set_by_the_training(toy: Any) -> None:
    assert gpmt.RigL().for_training(10_000) == gpmt.RigL(end=7500, interval=100)
    assert gpmt.RigL(end=5).for_training(1000).end == 5
    assert method_of("set+ham", alpha=3, inner={"interval": 7}).for_training(100) == gpmt.HAM(
        alpha=3, inner=gpmt.SET(interval=7, end=75)
    )
    for name in ("rigl", "rigl+ham"):
        with pytest.raises(
            MethodError, match=r"rigl does not know when to stop its updates; .* gpmt\.RigL\(end=\.\.\.\)"
        ):
            toy.start(gpmt.OneShot(0.5), method=name)


def test_short_trainings_have_thirty_updates() -> None:
    assert gpmt.SET().for_training(1000) == gpmt.SET(end=750, interval=25)
    assert gpmt.SET().for_training(8) == gpmt.SET(end=6, interval=1)
    assert gpmt.SET(end=300).last == 200


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": 0}, "alpha of rigl is 0, but must be a share between 0 and 1, such as 0.3"),
        ({"alpha": 1.0}, "alpha of rigl is 1.0, but"),
        ({"alpha": "30%"}, "alpha of rigl is '30%', but"),
        ({"interval": 0}, "interval of rigl is 0, but must be a number of steps, at least 1"),
        ({"end": 2.5}, "end of rigl is 2.5, but"),
        ({"anneal": "linear"}, "anneal of rigl is 'linear', but must be 'cosine' or 'constant'"),
        ({"across": "layer"}, "across of rigl is 'layer', but must be 'tensor' or 'network'"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(MethodError, match=message):
        gpmt.RigL(**settings)


@pytest.mark.parametrize(
    ("options", "across", "message"),
    [
        ({"granularity": "row"}, "tensor", "cannot keep granularity 'row'; leave it out"),
        ({"pattern": "2:4"}, "tensor", "cannot keep pattern '2:4'"),
        ({"within": "row"}, "tensor", "cannot keep within 'row'"),
        ({"within": "tensor"}, "network", "cannot keep within 'tensor'"),
    ],
)
def test_options_that_an_exchange_would_break_are_refused(
    toy: Any, options: dict[str, Any], across: Any, message: str
) -> None:
    with pytest.raises(MethodError, match=message):
        toy.start(gpmt.OneShot(0.5), method=gpmt.RigL(end=5, across=across), scope="head", **options)
    toy.start(gpmt.OneShot(0.5), method=gpmt.RigL(end=5), within="tensor")


def test_floors_that_an_update_cannot_keep_are_refused_before_anything_changes(toy: Any) -> None:
    """The smallest number of weights counts, at the end of the schedule."""
    model = toy.model()
    before = copy.deepcopy(model.state_dict())
    schedule = gpmt.Gradual(0.9, end=10, initial=0.2)
    method = gpmt.SET(end=20, interval=10, across="network", anneal="constant")
    with pytest.raises(
        MethodError,
        match="of 140 kept weights an update drops 42 before it grows others, but the minimums of 5 blocks need 100 "
        r"of the 98 that are left \(most: stem\.weight 20\)",
    ):
        toy.start(schedule, model=model, method=method, min_kept=20)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    toy.start(schedule, model=model, method=method, min_kept=19)
    masks = gpmt.plan(model, sparsity=0.9).masks()
    toy.start(None, model=toy.model(), method=method, masks=masks)


def test_reparametrised_weights_are_refused() -> None:
    model = nn.Sequential(torch.nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ScopeError, match="only plain weights are exchanged"):
        gpmt.Pruner(model, optimizer, schedule=gpmt.OneShot(0.5), method=METHODS["set"])


def test_the_base_is_no_method_by_name() -> None:
    with pytest.raises(MethodError, match="which is not known"):
        method_of("dynamic")
    assert issubclass(gpmt.SET, Dynamic)


def test_updates_that_come_after_the_training_are_named_at_its_end(toy: Any) -> None:
    run = toy.start(gpmt.OneShot(0.5), method=gpmt.SET(interval=2, end=9)).steps(3)
    with pytest.warns(gpmt.GpmtWarning, match="after 3 steps, but set changes masks until step 8"):
        run.pruner.close()
