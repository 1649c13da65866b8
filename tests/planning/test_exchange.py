"""Exchanged weights, against a full sort."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import gpmt
from gpmt.errors import MethodError, ScopeError
from gpmt.masks import Masks
from gpmt.planning.exchange import Exchange


def network(layers: list[list[list[int]]]) -> nn.Sequential:
    """Return layers of some small whole weights, so that many are equal."""
    model = nn.Sequential(*(nn.Linear(len(rows[0]), len(rows)) for rows in layers))
    with torch.no_grad():
        for layer, rows in zip(model, layers, strict=True):
            layer.weight.copy_(torch.tensor(rows))
    return model


def blocks_of(tensor: Tensor, divided: bool) -> list[Tensor]:
    """Return the blocks of a tensor as views."""
    return list(tensor.chunk(2)) if divided else [tensor]


def slowly(
    weights: list[Tensor], kept: list[Tensor], growth: list[Tensor], left: int, floors: list[int]
) -> list[Tensor]:
    """Exchange weights of one group by sorting all of them."""
    weights = [weight.detach() for weight in weights]
    places = [
        (block, index)
        for block, mask in enumerate(kept)
        for index in range(mask.numel())
        if mask.reshape(-1)[index]
    ]

    def size(place: tuple[int, int]) -> float:
        return -abs(float(weights[place[0]].reshape(-1)[place[1]]))

    stay: list[tuple[int, int]] = []
    for block, floor in enumerate(floors):
        own = sorted((place for place in places if place[0] == block), key=size)
        stay += own[:floor]
    stay += sorted((place for place in places if place not in stay), key=size)[: left - len(stay)]
    rest = [
        (block, index)
        for block, mask in enumerate(kept)
        for index in range(mask.numel())
        if (block, index) not in stay
    ]
    rest.sort(key=lambda place: -float(growth[place[0]].reshape(-1)[place[1]]))
    found = [torch.zeros(mask.shape, dtype=torch.bool) for mask in kept]
    for block, index in stay + rest[: len(places) - left]:
        found[block].view(-1)[index] = True
    return found


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[list[list[int]]], list[Tensor], list[Tensor]]:
    shapes = draw(st.lists(st.tuples(st.sampled_from([2, 4]), st.integers(1, 4)), min_size=1, max_size=3))
    layers = [
        [[draw(st.integers(-3, 3)) for _ in range(inputs)] for _ in range(outputs)]
        for outputs, inputs in shapes
    ]
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    kept = [torch.rand(shape, generator=generator) < 0.6 for shape in shapes]
    growth = [torch.randint(0, 4, shape, generator=generator).float() for shape in shapes]
    return layers, kept, growth


@settings(max_examples=20, deadline=None)
@given(problem=problems(), share=st.sampled_from([0.0, 0.25, 0.3, 0.5, 1.0]), divided=st.booleans())
def test_within_tensors_it_is_that_of_a_full_sort(problem: Any, share: float, divided: bool) -> None:
    layers, kept, growth = problem
    model = network(layers)
    names = [f"{index}.weight" for index in range(len(layers))]
    masks = Masks.from_dense(dict(zip(names, kept, strict=True)))
    masks.apply_(model)
    options: Any = {"blocks": {names[0]: 2}} if divided else {}
    found = Exchange(model, min_kept=2, **options).exchanged(
        masks, dict(zip(names, growth, strict=True)), share=share
    )
    for index, name in enumerate(names):
        parts = (
            blocks_of(part, divided and index == 0)
            for part in (model[index].weight, kept[index], growth[index], found[name])
        )
        for weight, mask, grown, new in zip(*parts, strict=True):
            count = int(mask.sum())
            [expected] = slowly([weight], [mask], [grown], count - math.floor(share * count), [0])
            assert torch.equal(new, expected)
            assert int(new.sum()) == count


@settings(max_examples=20, deadline=None)
@given(
    problem=problems(),
    share=st.sampled_from([0.0, 0.25, 0.3, 0.5]),
    floor=st.integers(0, 3),
    divided=st.booleans(),
)
def test_across_the_network_it_is_that_of_a_full_sort(
    problem: Any, share: float, floor: int, divided: bool
) -> None:
    layers, kept, growth = problem
    model = network(layers)
    names = [f"{index}.weight" for index in range(len(layers))]
    masks = Masks.from_dense(dict(zip(names, kept, strict=True)))
    masks.apply_(model)
    options: Any = {"blocks": {names[0]: 2}} if divided else {}
    exchange = Exchange(model, min_kept=floor, **options)
    weights, olds, grown = (
        [part for index, tensor in enumerate(tensors) for part in blocks_of(tensor, divided and index == 0)]
        for tensors in ([layer.weight.detach() for layer in model], kept, growth)
    )
    floors = [min(floor, old.numel()) for old in olds]
    total = masks.total_kept
    left = total - math.floor(share * total)
    rank = dict(zip(names, growth, strict=True))
    if sum(floors) > left:
        with pytest.raises(MethodError, match=f"need {sum(floors)} of the {left} that are left"):
            exchange.exchanged(masks, rank, share=share, across="network")
        return
    found = exchange.exchanged(masks, rank, share=share, across="network")
    floors = [min(floor, int(old.sum())) for floor, old in zip(floors, olds, strict=True)]
    news = [
        part for index, name in enumerate(names) for part in blocks_of(found[name], divided and index == 0)
    ]
    for new, expected in zip(news, slowly(weights, olds, grown, left, floors), strict=True):
        assert torch.equal(new, expected)
    assert found.total_kept == total
    assert all(int(new.sum()) >= least for new, least in zip(news, floors, strict=True))


def test_tensors_without_growth_and_out_of_scope_stay() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8))
    masks = gpmt.plan(model, sparsity=0.5).masks()
    masks.apply_(model)
    growth = {f"{index}.weight": torch.rand(8, 8) for index in (0, 2)}
    for across in ("tensor", "network"):
        found = Exchange(model, exclude="2").exchanged(masks, growth, share=0.5, across=across)  # type: ignore[arg-type]
        assert list(found) == list(masks)
        assert not torch.equal(found["0.weight"], masks["0.weight"])
        assert torch.equal(found["1.weight"], masks["1.weight"])
        assert torch.equal(found["2.weight"], masks["2.weight"])
        assert found.total_kept == masks.total_kept
    assert Exchange(model).exchanged(masks, {}, share=0.5, across="network") == masks


def test_counts_of_blocks() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    masks = gpmt.plan(model, sparsity=0.5).masks()
    masks.apply_(model)
    exchange = Exchange(model, blocks={"0.weight": ["a", "b"]})
    kept = exchange.kept(masks)
    first = masks["0.weight"]
    assert kept == {
        "0.weight.a": int(first[:4].sum()),
        "0.weight.b": int(first[4:].sum()),
        "1.weight": masks.kept("1.weight"),
    }


def test_floors_that_do_not_fit_are_refused_with_numbers() -> None:
    exchange = Exchange(nn.Sequential(nn.Linear(8, 8), nn.Linear(4, 8)), min_kept=20)
    exchange.check_floors(exchange.floors, total=50, share=0.2)
    with pytest.raises(
        MethodError,
        match="of 50 kept weights an update drops 15 before it grows others, but the minimums of 2 blocks need 40 of "
        r"the 35 that are left \(most: 0.weight 20\); lower alpha or the minimums, or use across=\"tensor\"",
    ):
        exchange.check_floors(exchange.floors, total=50, share=0.3)


def test_reparametrised_weights_are_refused() -> None:
    model = nn.Sequential(torch.nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)))
    with pytest.raises(ScopeError, match="is reparametrised, and only plain weights are exchanged"):
        Exchange(model)
