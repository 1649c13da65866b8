"""SET grows random weights, the same ones everywhere."""

from __future__ import annotations

from typing import Any

import torch

import gpmt
from gpmt.pruner.methods.set_ import random_scores


def test_what_grows_is_a_matter_of_the_seed_and_the_step(toy: Any) -> None:
    """Neither the state of random generators nor gradients count."""

    def masks(seed: int, drawn: int) -> list[gpmt.Masks]:
        run = toy.start(
            gpmt.OneShot(0.8),
            make=lambda model: torch.optim.SGD(model.parameters(), lr=0.0),
            method=gpmt.SET(interval=1, end=9),
            seed=seed,
        )
        torch.manual_seed(drawn)
        return [run.steps(1).pruner.masks for _ in range(2)]

    assert masks(0, 1) == masks(0, 2)
    assert masks(0, 1) != masks(1, 1)
    assert masks(0, 1)[0] != masks(0, 1)[1]


def test_weights_grow_evenly() -> None:
    """Each weight of a tensor is as likely as any other."""
    counts = torch.zeros(40)
    for step in range(500):
        counts[random_scores(step, 3, torch.Size([40])).topk(10).indices] += 1
    assert counts.sum() == 5000
    assert 90 < counts.min() <= counts.max() < 160  # 125 are expected, with a deviation of 10


def test_scores_are_one_after_another_in_any_chunks(monkeypatch: Any) -> None:
    whole = random_scores(5, 2, torch.Size([7, 9]))
    monkeypatch.setattr("gpmt.pruner.methods.set_._CHUNK", 8)
    assert torch.equal(random_scores(5, 2, torch.Size([7, 9])), whole)
    assert 0 <= float(whole.min()) <= float(whole.max()) < 1
