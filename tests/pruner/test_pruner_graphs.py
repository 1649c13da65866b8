"""The optimiser's step compiled by torch.compile, and captured in a CUDA graph."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from gpmt.core.schedule.schedule import ACDC, Gradual, OneShot
from gpmt.errors import MaskError
from gpmt.prune import plan
from gpmt.pruner.methods.rigl import RigL
from gpmt.pruner.pruner import Pruner


@pytest.mark.parametrize("backend", ["eager", pytest.param("aot_eager", marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore")  # what torch.compile says of its own
def test_a_compiled_step_is_followed_outside_of_its_graph(
    toy: Any, make: Any, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The schedule goes on, and no change of the masks compiles the step again."""
    torch._dynamo.reset()
    schedule = Gradual(0.9, end=6, interval=2, initial=0.1)
    run, plain = toy.start(schedule, make=make), toy.start(schedule, make=make)
    inside: list[bool] = []
    zero_pruned = run.pruner._network._enforcement.zero_pruned

    def watched(*parts: Any) -> None:
        inside.append(torch.compiler.is_compiling())
        zero_pruned(*parts)

    monkeypatch.setattr(run.pruner._network._enforcement, "zero_pruned", watched)
    step = torch.compile(run.optimizer.step, backend=backend)
    for batch in range(9):
        run.optimizer.zero_grad()
        toy.loss_at(run.model, batch).backward()
        step()
        run.assert_zero_where_pruned()
        plain.step()
    assert set(inside) == {False}
    assert run.pruner.step_count == 9
    assert run.pruner.masks == plain.pruner.masks
    assert run.zeros() == 0.9 * toy.numel
    torch._dynamo.reset()


def test_new_masks_are_written_over_those_that_a_graph_reads(
    toy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The memory of the masks stays, with everything kept where none is left."""
    run = toy.start(OneShot(0.9)).steps(1)
    held = dict(run.pruner._network._enforcement._keep)
    with monkeypatch.context() as patch:
        patch.setattr("gpmt.pruner.enforcement.capturing", lambda: True)
        patch.setattr("gpmt.pruner.pruner.capturing", lambda: True)
        run.optimizer.step()
    assert run.pruner.step_count == 1  # a captured step is not done
    smaller = plan(run.model, sparsity=0.5, scope="head").masks()
    run.pruner.masks = smaller
    for name, keep in held.items():
        assert torch.equal(keep == 0, ~smaller[name] if name in smaller else torch.zeros_like(keep).bool())
    run.pruner.masks = None
    assert all(bool((keep == -1).all()) for keep in held.values())
    run.pruner.masks = plan(run.model, sparsity=0.9).masks()
    for name, keep in held.items():
        assert torch.equal(keep == 0, ~run.pruner.masks[name])
        assert run.pruner._network._enforcement._keep[name] is keep


GRADUAL = Gradual(0.9, end=9, initial=0.5)
ALTERNATING = ACDC(0.9, start=0, period=4, sparse=2, last_restore=2, end=9, unit="step")


@pytest.mark.parametrize(
    ("schedule", "method", "what"),
    [
        (GRADUAL, "hard", "schedule Gradual"),
        (ALTERNATING, "hard", "schedule ACDC"),
        (OneShot(0.9), RigL(interval=3, end=10), "method rigl"),
    ],
)
def test_a_capture_before_the_last_event_is_refused(
    toy: Any, schedule: Any, method: Any, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = toy.start(schedule, method=method).steps(1)
    monkeypatch.setattr("gpmt.pruner.pruner.capturing", lambda: True)
    with pytest.raises(
        MaskError,
        match=f"replays of a CUDA graph do not count as steps, so the {what} would stop at step 1 of 9; capture the "
        "graph after its last event",
    ):
        run.optimizer.step()


def test_masks_that_are_not_on_the_device_cannot_be_captured(
    toy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = toy.start(OneShot(0.9)).steps(1)
    run.model.head.weight = nn.Parameter(run.model.head.weight.detach().to("meta"))
    monkeypatch.setattr("gpmt.pruner.enforcement.capturing", lambda: True)
    with pytest.raises(
        MaskError, match=r"the mask of head\.weight is not on meta yet, .* run one step before the capture"
    ):
        run.pruner._network._enforcement.zero_pruned(run.model, [run.optimizer])


@pytest.mark.gpu
def test_a_captured_graph_follows_masks_that_are_set_later() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 64), nn.Tanh(), nn.Linear(64, 32)).cuda()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, capturable=True)
    pruner = Pruner(model, optimizer, schedule=OneShot(0.9))
    inputs = torch.randn(16, 32, device="cuda")

    def step() -> None:
        optimizer.zero_grad(set_to_none=False)
        (model(inputs) - inputs).square().mean().backward()
        optimizer.step()

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    assert pruner.step_count == 3
    for sparsity in (0.9, 0.5, 0.8):
        pruner.masks = plan(model, sparsity=sparsity, allocation="random", seed=1).masks()
        for _ in range(3):
            graph.replay()
        for name, mask in pruner.masks.items():
            weight = model.get_parameter(name)
            assert not bool(weight.detach().cpu()[~mask].any())
            assert bool(weight.detach().cpu()[mask].all())


@pytest.mark.gpu
def test_a_step_waits_for_nothing_between_events(toy: Any, make: Any) -> None:
    run = toy.start(
        Gradual(0.9, end=40, interval=30, initial=0.5), make=make, model=toy.model().cuda()
    ).steps(2)
    toy.loss_at(run.model, 2).backward()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(20):
            run.optimizer.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert run.pruner.step_count == 22
