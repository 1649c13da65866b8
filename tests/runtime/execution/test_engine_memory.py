"""Shared memory changes no bit, even where it is full of NaN before a buffer is first written in a run."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from tests.runtime.execution.engines import chain, choices_of
from tests.runtime.networks import Lambda, noise, scramble
from tests.runtime.random_networks import networks
from torch import nn
from torch.nn import functional as F

from gpmt.runtime.codegen import processor
from gpmt.runtime.execution.engine import Engine
from gpmt.runtime.execution.packing import uses
from gpmt.runtime.execution.segments import Segment
from gpmt.runtime.execution.torch_steps import as_compiled, run_torch_step
from gpmt.runtime.frontend.capture import capture
from gpmt.runtime.lowering.lower import lower
from gpmt.runtime.lowering.steps import NativeStep
from gpmt.runtime.passes.pipeline import optimize
from gpmt.runtime.threads.thread_pool import ThreadPool


class PoisonedEngine(Engine):
    """An engine whose buffers are full of NaN before their first use in a run, and after their last one."""

    def run(self, inputs, outputs):
        values = {**self._constants, **inputs}
        self.memory_content[:] = np.nan
        place = 0
        with as_compiled():
            for part in self._parts:
                if not isinstance(part, Segment):
                    run_torch_step(part, values)
                    place += 1
                    continue
                part.bind(values, self.tensor_shapes)
                for table in part.single_step_tables():
                    self._poison(place, 0)
                    self.pool.run(table)
                    self._poison(place, 1)
                    place += 1
        return [values[name].clone() for name in outputs]

    @property
    def memory_content(self):
        arena = self.buffers.arena
        return arena.floats(arena.address, arena.size // 4)

    def _poison(self, place, end):
        for name, span in uses(self.steps).items():
            if span[end] == place:
                count = self.planes[name].own_bytes // 4
                for address in self.buffers.addresses[name]:
                    self.buffers.arena.floats(address, count)[:] = np.nan


def check(network, inputs, threads=1):
    """Compare engines with shared memory, and with NaN in it, with one whose buffers have memory of their own."""
    graph = optimize(capture(network, inputs).graph)
    lowered = lower(graph, processor.host(), threads)
    choices, pool = choices_of(lowered), ThreadPool.shared(threads)
    plain, shared, poisoned = (
        kind(lowered, choices, graph.constants, pool, share_memory=kind is PoisonedEngine or share)
        for kind, share in ((Engine, False), (Engine, True), (PoisonedEngine, True))
    )
    assert shared.memory[0] <= plain.memory[0]
    for seed in range(2):
        values = dict(zip(graph.inputs, [noise(*x.shape, seed=seed) for x in inputs], strict=True))
        expected = plain.run(values, graph.outputs)
        for engine in (shared, poisoned):
            for result, right in zip(engine.run(values, graph.outputs), expected, strict=True):
                assert torch.equal(result, right)
    return shared, plain


def squeezed(s, x):
    x = s.first(x)
    return s.last(
        torch.cat([x * torch.sigmoid(s.gate(x.mean((2, 3), keepdim=True))), F.max_pool2d(x, 3, 1, 1)], 1)
    )


ZOO = {
    "chain": lambda: chain(5),
    "odd": lambda: nn.Sequential(
        nn.Conv2d(8, 5, (3, 1), padding=(2, 0)), nn.ReLU(), nn.Conv2d(5, 7, 5, stride=(2, 1), padding=2),
        nn.AvgPool2d(2, padding=1), nn.Conv2d(7, 20, 1), nn.Conv2d(20, 3, 3, padding=4, dilation=2),
    ),
    "depthwise": lambda: nn.Sequential(
        nn.Conv2d(8, 16, 1), nn.Hardswish(), nn.Conv2d(16, 16, 3, 2, 1, groups=16), nn.Conv2d(16, 4, 1),
        nn.Conv2d(4, 4, 5, padding=2, groups=4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 9),
    ),
    "squeezed": lambda: Lambda(
        squeezed, first=nn.Conv2d(8, 6, 3, padding=1), gate=nn.Conv2d(6, 6, 1), last=nn.Conv2d(12, 4, 3, padding=1)
    ),
    "mixed": lambda: nn.Sequential(
        nn.Conv2d(8, 4, 3, padding=1), nn.GELU(), nn.Conv2d(4, 6, 3, padding=2), nn.Conv2d(6, 4, 3),
        nn.Upsample(scale_factor=2), nn.Conv2d(4, 3, 3, padding=1),
    ),
}  # fmt: skip


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", ZOO)
def test_no_bit_depends_on_what_is_in_memory(name, threads):
    torch.manual_seed(0)
    check(scramble(ZOO[name]()), [noise(2, 8, 9, 10)], threads)


@settings(max_examples=8)
@given(networks())
def test_random_networks(case):
    network, inputs = case
    check(network, inputs)


@pytest.mark.slow
@settings(max_examples=300)
@given(networks(most=14))
def test_many_random_networks(case):
    network, inputs = case
    check(network, inputs)


def test_buffers_of_different_layouts_share_memory():
    torch.manual_seed(0)
    network = scramble(nn.Sequential(*[nn.Conv2d(8 + i, 9 + i, 3, padding=i % 3) for i in range(9)]))
    shared, plain = check(network, [noise(1, 8, 20, 20)])
    assert shared.memory[0] < plain.memory[0] / 3
    assert len(set(shared.planes.values())) > 5
    steps = [step for step in shared.steps if isinstance(step, NativeStep)]
    assert len(shared.segment.rows) == len(steps)
