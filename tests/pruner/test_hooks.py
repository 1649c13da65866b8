"""Which hooks go on which optimiser, and whose they are."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from gpmt.pruner.hooks import attach, owners


def test_the_first_optimiser_counts_and_the_others_do_not() -> None:
    layers = nn.Linear(2, 2), nn.Linear(2, 2)
    optimizers = [torch.optim.SGD(layer.parameters(), lr=0.1) for layer in layers]
    calls: list[str] = []

    def noting(name: str) -> Any:
        return lambda *_: calls.append(name)

    handles = attach(
        "me",
        optimizers,
        before=noting("before"),
        before_evaluations=noting("evaluates"),
        after=noting("after"),
        after_other=noting("other"),
    )
    for optimizer in (optimizers[1], optimizers[0]):
        optimizer.step()
    assert calls == ["before", "other", "before", "after"]
    assert list(owners(optimizers)) == ["me", "me"]
    for handle in handles:
        handle.remove()
    optimizers[0].step()
    assert len(calls) == 4
    assert not list(owners(optimizers))


def test_an_optimiser_that_evaluates_within_its_step_has_a_hook_before_it() -> None:
    optimizer = torch.optim.LBFGS(nn.Linear(2, 2).parameters())
    calls: list[str] = []
    attach(
        "me",
        [optimizer],
        before=lambda *_: calls.append("before"),
        before_evaluations=lambda *_: calls.append("evaluates"),
        after=lambda *_: calls.append("after"),
        after_other=lambda *_: None,
    )
    optimizer.step(lambda: torch.zeros(()))
    assert calls == ["before", "evaluates", "after"]


def test_hooks_of_others_have_no_owner() -> None:
    optimizer = torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1)
    optimizer.register_step_post_hook(lambda *_: None)
    assert not list(owners([optimizer]))
    assert not list(owners([copy.deepcopy(optimizer)]))
