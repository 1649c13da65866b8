"""The settings of ST-3; how it trains is tested in test_soft_rule*.py."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import gpmt
from gpmt.errors import MethodError


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 100, bias=False), nn.Linear(100, 100, bias=False))


def pruned(method: gpmt.Method) -> gpmt.Masks:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    masks = gpmt.Pruner(model, optimizer, schedule=gpmt.OneShot(0.9), method=method, min_kept=3).masks
    assert masks is not None
    return masks


def test_the_flat_ranking_multiplies_by_the_root_of_the_sum_of_the_dimensions() -> None:
    weights = dict(network().named_parameters())
    scores = {name: w.detach().abs() * sum(w.shape) ** 0.5 for name, w in weights.items()}
    expected = gpmt.plan(network(), sparsity=0.9, min_kept=3, scores=scores).masks()
    assert pruned(gpmt.ST3(flat=True)) == expected
    assert pruned(gpmt.ST3()) == gpmt.plan(network(), sparsity=0.9, min_kept=3).masks() != expected


def test_the_flat_threshold_is_that_of_the_products() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    gpmt.Pruner(model, optimizer, schedule=gpmt.OneShot(0.9), method=gpmt.ST3(flat=True, rescale=False))
    lost = []
    for dense, layer in zip(network(), model, strict=True):
        kept = layer.weight != 0
        taken = (dense.weight - layer.weight).abs()[kept]
        assert taken.max() - taken.min() < 1e-6
        lost.append(taken.mean().item() * sum(layer.weight.shape) ** 0.5)
    assert lost[0] == pytest.approx(lost[1], rel=1e-5)


def test_settings_that_mean_nothing_are_refused() -> None:
    with pytest.raises(MethodError, match="flat is 1, but must be True or False"):
        gpmt.ST3(flat=1)  # type: ignore[arg-type]
