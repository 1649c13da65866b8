"""Sums of magnitudes over units, against Python's own floats, for every layout, dtype and chunk."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpmt.core.layers.axes import Axes
from gpmt.core.units.registry import UNITS
from gpmt.errors import ScopeError, WeightsError

UNITS_OF_SEVERAL = [UNITS[name] for name in ("row", "channel", "1x4", "column")]


def unit_at(name, place):
    """Which unit the weight at [layer, output, input, tap] is in: the definitions."""
    layer, output, channel, tap = place
    return {
        "row": (layer, output),
        "channel": (layer, channel),
        "1x4": (layer, output, channel // 4, tap),
        "column": (channel,),
    }[name]


@st.composite
def blocks(draw, name):
    """A weight with its axes, in one of several memory formats, and [layer, output, input, tap] of each element."""
    stacked, output = draw(st.sampled_from([(False, 0), (False, 1), (True, 1), (True, 2)]))
    taps = () if stacked else draw(st.sampled_from([(), (2,), (1, 3), (2, 2)]))
    if name == "column":
        stacked, output, taps = False, 0, ()
    shape = tuple(draw(st.integers(1, 9)) for _ in range(3 if stacked else 2)) + taps
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    dtype = draw(st.sampled_from([torch.float64, torch.float32, torch.float16, torch.bfloat16]))
    weight = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
    weight *= torch.rand(shape, generator=generator) < 0.5
    layout = draw(st.sampled_from(["plain", "last first", "strided"]))
    if layout == "last first":  # channels_last, or a transposed matrix
        weight = weight.movedim(1, -1).contiguous().movedim(-1, 1)
    elif layout == "strided":
        weight = weight.repeat_interleave(2, dim=-1)[..., ::2]
    places = []
    for index in itertools.product(*map(range, shape)):
        layer, *rest = index if stacked else (0, *index)
        first, second, *tap = rest
        flat_tap = 0
        for position, size in zip(tap, taps, strict=True):
            flat_tap = flat_tap * size + position
        if output == (2 if stacked else 1):
            first, second = second, first
        places.append((layer, first, second, flat_tap))
    return weight, Axes(output, stacked), places


@pytest.mark.parametrize("unit", UNITS_OF_SEVERAL, ids=lambda unit: unit.name)
@settings(max_examples=40)
@given(data=st.data())
def test_sums_masks_and_counts_are_those_of_the_definition(unit, data):
    weight, axes, places = data.draw(blocks(unit.name))
    shape, sums, live = tuple(weight.shape), {}, {}
    values = weight.double().flatten().tolist()
    # Weights are added in the order [layer, output, input, tap].
    for place, value in sorted(zip(places, values, strict=True), key=lambda pair: pair[0]):
        key = unit_at(unit.name, place)
        sums[key] = sums.get(key, 0.0) + abs(value)
        live[key] = live.get(key, False) or value != 0
    order = sorted(sums)
    unit.check("w", axes, shape)
    found = unit.values("w", axes, weight)
    assert found.dtype == torch.float64
    assert found.tolist() == [sums[key] for key in order]
    assert unit.count(axes, shape) == len(order)
    assert unit.live(axes, weight) == sum(live.values())
    kept = torch.tensor(data.draw(st.lists(st.booleans(), min_size=len(order), max_size=len(order))))
    bits = dict(zip(order, kept.tolist(), strict=True))
    mask = unit.spread(kept, axes, shape)
    assert mask.shape == weight.shape
    assert mask.flatten().tolist() == [bits[unit_at(unit.name, place)] for place in places]
    assert unit.live(axes, mask) == sum(bits.values())


@pytest.mark.parametrize("unit", UNITS_OF_SEVERAL[:3], ids=lambda unit: unit.name)
def test_chunks_do_not_change_sums_or_counts(unit, monkeypatch):
    weight = torch.randn(3, 11, 13).relu() * (torch.arange(13) % 3 > 0)
    axes = Axes(1, stacked=True)
    sums, live = unit.values("a", axes, weight), unit.live(axes, weight)
    for chunk in (1, 30):
        monkeypatch.setattr("gpmt.core.units.summed.CHUNK", chunk)
        assert torch.equal(unit.values("a", axes, weight), sums)
        assert unit.live(axes, weight) == live


@pytest.mark.parametrize("unit", UNITS_OF_SEVERAL, ids=lambda unit: unit.name)
def test_a_block_without_weights_has_no_units(unit):
    empty = torch.zeros(0, 5)
    assert unit.count(Axes(), (0, 5)) == unit.live(Axes(), empty) == 0
    assert unit.values("a", Axes(), empty).numel() == 0
    assert unit.spread(torch.zeros(0, dtype=torch.bool), Axes(), (0, 5)).shape == (0, 5)


def test_a_sum_beyond_float64_is_refused():
    matrix = torch.tensor([[1e308, 1.0], [-1e308, 1.0]], dtype=torch.float64)
    with pytest.raises(WeightsError, match="a has 1 of 2 columns whose sum is NaN or infinite"):
        UNITS["column"].values("a", Axes(), matrix)
    with pytest.raises(WeightsError, match="a has 1 of 2 rows whose sum is NaN or infinite"):
        UNITS["row"].values("a", Axes(), torch.tensor([[float("nan"), 1.0], [1.0, 1.0]]))


def test_weights_whose_outputs_are_not_known_are_refused():
    with pytest.raises(
        ScopeError, match="nothing tells which dimension of a counts its outputs, so whole rows"
    ):
        UNITS["row"].check("a", Axes(told=False), (2, 3, 4))
