"""A batch with each thread on samples of its own: the bits are those of one sample at a time."""

import pytest
import torch
from tests.runtime.execution.engines import engine_of
from tests.runtime.networks import Lambda, noise, small
from torch import nn

from gpmt.errors import RuntimeProgramError
from gpmt.runtime.execution.batch import BatchExecutor
from gpmt.runtime.threads.thread_pool import ThreadPool

SAMPLE = noise(1, 3, 8, 9)


def executor_of(network, threads):
    """Return an executor, one of its engines, and the graph."""
    engines = [engine_of(network, SAMPLE) for _ in range(threads)]
    engine, graph = engines[0]
    return BatchExecutor([engine for engine, _ in engines], ThreadPool.shared(threads)), engine, graph


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("samples", [1, 2, 7])
def test_every_sample_is_computed_as_if_alone(threads, samples):
    executor, engine, graph = executor_of(small(), threads)
    images = noise(samples, 3, 8, 9, seed=1)
    (result,) = executor.run({graph.inputs[0]: images}, graph.outputs)
    for image, row in zip(images.split(1), result.split(1), strict=True):
        assert torch.equal(engine.run({graph.inputs[0]: image}, graph.outputs)[0], row)


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
