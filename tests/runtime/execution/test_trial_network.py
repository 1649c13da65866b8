"""Trial networks: times for all native steps, on one sample or on chunks, with PyTorch in between or without."""

import numpy as np
import pytest
import torch
from tests.runtime.execution.engines import choices_of
from tests.runtime.networks import mixed, noise, small
from torch import nn

from gpmt.runtime.codegen import processor
from gpmt.runtime.execution.memory_plan import Schedule
from gpmt.runtime.execution.trial_network import TrialNetwork
from gpmt.runtime.frontend.capture import capture
from gpmt.runtime.lowering.lower import lower
from gpmt.runtime.passes.pipeline import optimize
from gpmt.runtime.threads.thread_pool import ThreadPool


def trial(network, example, threads=1, schedule=None):
    graph = optimize(capture(network, example).graph)
    lowered = lower(graph, processor.host(), threads)
    choices = choices_of(lowered)
    return TrialNetwork(lowered, choices, graph.values, ThreadPool.shared(threads), schedule), len(choices)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("network", [small, mixed])
def test_one_sample(network, threads):
    network, count = trial(network(), noise(1, 3, 8, 9), threads)
    for _ in range(3):
        times = network.run()
        assert times.shape == (count,)
        assert (times > 0).all()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("schedule", [Schedule(), Schedule(3, 0), Schedule(2, 3)])
def test_chunks_of_samples(threads, schedule):
    network, count = trial(small(), noise(1, 3, 8, 9), threads, schedule)
    times = np.array([network.run() for _ in range(3)])
    assert times.shape == (3, count)
    assert (times > 0).all()


def test_inputs_that_are_not_floats_are_made_up():
    class Picked(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.linear = nn.Embedding(5, 8), nn.Linear(8, 4)

        def forward(self, index):
            return self.linear(self.table(index))

    network, _ = trial(Picked().eval(), torch.zeros(3, dtype=torch.int64))
    assert (network.run() > 0).all()
