"""A batch with each thread on samples of its own: the bits are those of one sample at a time."""

import pytest
import torch
from tests.runtime.execution.engines import engine_of
from tests.runtime.networks import Lambda, noise, small
from torch import nn

from gpmt.errors import RuntimeProgramError
from gpmt.runtime.execution.batch import BatchExecutor
from gpmt.runtime.execution.memory_plan import ONE_SAMPLE, Schedule
from gpmt.runtime.threads.thread_pool import ThreadPool

SAMPLE = noise(1, 3, 8, 9)


def executor_of(network, threads, schedule=ONE_SAMPLE):
    """Return an executor, one of its engines, and the graph."""
    engines = [engine_of(network, SAMPLE, schedule=schedule) for _ in range(threads)]
    engine, graph = engines[0]
    return BatchExecutor([engine for engine, _ in engines], ThreadPool.shared(threads)), engine, graph


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("samples", [1, 2, 7])
@pytest.mark.parametrize(
    "schedule", [ONE_SAMPLE, Schedule(3, 0), Schedule(2, 2), Schedule(4, 3), Schedule(2, 7)]
)
def test_every_sample_is_computed_as_if_alone(threads, samples, schedule):
    executor, engine, graph = executor_of(small(), threads, schedule)
    images = noise(samples, 3, 8, 9, seed=1)
    for _ in range(2):
        (result,) = executor.run({graph.inputs[0]: images}, graph.outputs)
        for image, row in zip(images.split(1), result.split(1), strict=True):
            assert torch.equal(engine.run({graph.inputs[0]: image}, graph.outputs)[0], row)


@pytest.mark.parametrize("alone", range(0, 9, 2))
def test_residuals_and_gates_that_reach_over_the_place_where_samples_meet(alone):
    def function(s, x):
        first = s.first(x)
        return s.last(torch.relu(s.middle(first) + first) * torch.sigmoid(first.mean((2, 3), keepdim=True)))

    torch.manual_seed(0)
    parts = {"first": (3, 5), "middle": (5, 5), "last": (5, 4)}
    network = Lambda(
        function, **{name: nn.Conv2d(*sizes, 3, padding=1) for name, sizes in parts.items()}
    ).eval()
    executor, _, graph = executor_of(network, 2, Schedule(4, alone))
    alone_engine, _ = engine_of(network, SAMPLE)
    images = noise(11, 3, 8, 9, seed=1)
    (result,) = executor.run({graph.inputs[0]: images}, graph.outputs)
    for image, row in zip(images.split(1), result.split(1), strict=True):
        assert torch.equal(alone_engine.run({graph.inputs[0]: image}, graph.outputs)[0], row)


def test_an_input_that_is_returned_is_copied():
    executor, _, graph = executor_of(Lambda(lambda s, x: (x, s.conv(x)), conv=nn.Conv2d(3, 4, 1)).eval(), 2)
    images = noise(3, 3, 8, 9)
    same, _ = executor.run({graph.inputs[0]: images}, graph.outputs)
    assert torch.equal(same, images)
    assert same.data_ptr() != images.data_ptr()


def test_a_run_in_the_middle_of_itself_is_refused(monkeypatch):
    executor, _, graph = executor_of(small(), 2)
    inputs = {graph.inputs[0]: noise(3, 3, 8, 9)}
    refused = []

    def again(table):
        with pytest.raises(RuntimeProgramError, match="in the middle of a call of itself by the same thread"):
            executor.run(inputs, graph.outputs)
        refused.append(table)

    monkeypatch.setattr(executor._loop, "run", again)
    executor.run(inputs, graph.outputs)
    assert len(refused) == 1
