"""Runs of an engine: what they return is in memory of its own, and what they keep is right in the next run."""

from dataclasses import replace

import pytest
import torch
from tests.runtime.execution.engines import chain, engine_of, run
from tests.runtime.networks import Lambda, noise, scramble
from torch import nn

import gpmt
from gpmt.errors import RuntimeProgramError
from gpmt.runtime.lowering.steps import TorchStep

IMAGES = noise(2, 8, 9, 10)


@torch.no_grad()
def test_values_that_are_read_late_are_kept():
    def function(s, x):
        first = s.body[0](x)
        y = first
        for part in s.body[1:]:
            y = part(y)
        return y + first, torch.cat([first, y, x], 1)

    network = Lambda(function, body=chain(5)).eval()
    for result, expected in zip(run(network, IMAGES), network(IMAGES), strict=True):
        torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(
    "function",
    [
        lambda s, x: x,
        lambda s, x: x.reshape(2, -1).reshape(4, -1),
        lambda s, x: s.c,
        lambda s, x: s.c.reshape(4),
    ],
)
def test_outputs_are_in_memory_of_their_own(function):
    network = Lambda(function, c=noise(2, 2))
    engine, graph = engine_of(network, IMAGES)
    first, second = (engine.run({graph.inputs[0]: IMAGES}, graph.outputs)[0] for _ in range(2))
    assert torch.equal(first, network(IMAGES))
    first.zero_()
    assert torch.equal(second, network(IMAGES))
    assert torch.equal(IMAGES, noise(2, 8, 9, 10))


@torch.no_grad()
def test_a_value_that_is_written_and_read_again_in_one_go():
    """Exported by one native step and imported in another layout by a later one, without PyTorch in between."""
    network = nn.Sequential(nn.Conv2d(8, 4, 3), nn.Linear(8, 5), nn.Conv2d(4, 3, 1)).eval()
    engine, graph = engine_of(network, IMAGES)
    assert engine.native
    (result,) = engine.run({graph.inputs[0]: IMAGES}, graph.outputs)
    torch.testing.assert_close(result, network(IMAGES), rtol=1e-5, atol=1e-5)


def test_profiles_have_a_time_for_every_native_step():
    network = nn.Sequential(nn.Conv2d(8, 4, 3), nn.Softplus(), nn.Conv2d(4, 3, 3))
    engine, graph = engine_of(network, IMAGES)
    assert not engine.native
    times = engine.profile({graph.inputs[0]: IMAGES}, seconds=1e-4)
    assert len(times) == len(engine.kernels) == 6
    assert all(0 < time < 1 for time in times)


@torch.no_grad()
def test_pads_stay_zero_when_infinity_has_passed():
    network = scramble(nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1)))
    program = gpmt.compile(network, IMAGES, threads=1, tune=False)
    before = program(IMAGES)
    for number in (float("nan"), float("inf")):
        program(torch.full_like(IMAGES, number))
    assert torch.equal(program(IMAGES), before)


def test_a_run_in_the_middle_of_itself_is_refused():
    engine, graph = engine_of(nn.Sequential(nn.Conv2d(8, 4, 3), nn.Softplus(), nn.Conv2d(4, 3, 3)), IMAGES)
    values = {graph.inputs[0]: IMAGES}
    expected = engine.run(values, graph.outputs)[0]
    (place,) = (i for i, part in enumerate(engine._parts) if isinstance(part, TorchStep))
    step = engine._parts[place]

    def again(*tensors):
        with pytest.raises(
            RuntimeProgramError, match="in the middle of a call of itself by the same thread, as"
        ):
            engine.run({graph.inputs[0]: 2 * IMAGES}, graph.outputs)
        return step.run(*tensors)

    engine._parts[place] = replace(step, run=again)
    for _ in range(2):
        assert torch.equal(engine.run(values, graph.outputs)[0], expected)


@torch.no_grad()
def test_a_tensor_that_two_steps_read_in_different_layouts():
    """One as it lies, the other contiguous, and both after other calls of PyTorch than the one that made it."""

    def function(s, x):
        late = torch.sin(s.first(x)).repeat(1, 2, 1, 1)[:, ::2]
        other = torch.cos(s.second(torch.sin(s.first(x + 1))))
        return torch.cat([late, other], 1), s.linear(late) + s.linear(other)

    network = Lambda(
        function, first=nn.Conv2d(8, 4, 3), second=nn.Conv2d(4, 4, 1), linear=nn.Linear(8, 8)
    ).eval()
    for result, expected in zip(run(network, IMAGES), network(IMAGES), strict=True):
        torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-5)
