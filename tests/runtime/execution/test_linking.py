"""Arguments of kernels: the same for all samples but for the addresses of buffers, tensors and arguments."""

import numpy as np
import torch
from tests.runtime.execution.engines import choices_of
from tests.runtime.networks import noise, scramble
from torch import nn

from gpmt.runtime.codegen import processor
from gpmt.runtime.codegen.kernel import load
from gpmt.runtime.execution.linking import link
from gpmt.runtime.execution.memory_plan import MemoryPlan, Schedule
from gpmt.runtime.execution.segments import Segment
from gpmt.runtime.execution.weights import Weights
from gpmt.runtime.frontend.capture import capture
from gpmt.runtime.kernels.clear_gaps import ClearGapsKernel
from gpmt.runtime.lowering.lower import lower
from gpmt.runtime.lowering.steps import TorchStep
from gpmt.runtime.passes.pipeline import optimize

LAYERS = [nn.Conv2d(8, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 4, 1), nn.Conv2d(4, 3, 3, padding=1)]


def linked(network, schedule):
    torch.manual_seed(0)
    graph = optimize(capture(scramble(network), noise(1, 8, 9, 10)).graph)
    lowered = lower(graph, processor.host(), 1)
    choices, memory = choices_of(lowered), MemoryPlan(lowered, schedule)
    return lowered, choices, memory, link(lowered, choices, Weights(choices), memory, schedule.samples)


def test_samples_have_their_own_addresses():
    _, choices, memory, (segment,) = linked(nn.Sequential(*LAYERS), Schedule(3, 0))
    rows = segment.arguments
    assert len(rows) == 3
    addresses = {address for found in memory.addresses.values() for address in found}
    start, end = min(addresses), min(addresses) + memory.arena.size
    own = range(rows.ctypes.data, rows.ctypes.data + rows.nbytes)
    for column in rows.T.tolist():
        if len(set(column)) > 1:
            in_memory = all(start <= value < end for value in column)
            in_arguments = all(value in own for value in column)
            assert in_memory or in_arguments
            if in_arguments:
                assert np.diff(column).tolist() == [rows.strides[0]] * 2
    assert len(segment.rows) == len(choices)
    assert {row[3] for row in segment.rows} == {rows.strides[0]}


def test_the_first_step_on_a_buffer_with_a_gap_clears_it():
    lowered, choices, memory, (segment,) = linked(nn.Sequential(*LAYERS), Schedule())
    wrapped = load(ClearGapsKernel(processor.host().lanes, lowered.planes[min(lowered.planes)]))
    for index, (row, choice) in enumerate(zip(segment.rows, choices, strict=True)):
        assert row[0] == (wrapped if index in memory.cleared else load(choice.spec))
        assert row[2] == choice.spec.items
    assert 0 < len(memory.cleared) < len(choices)


def test_pytorch_is_between_segments():
    *_, parts = linked(nn.Sequential(LAYERS[0], nn.Softplus(), *LAYERS[1:]), Schedule())
    assert [type(part) for part in parts] == [Segment, TorchStep, Segment]
    assert parts[0].arguments is parts[2].arguments
