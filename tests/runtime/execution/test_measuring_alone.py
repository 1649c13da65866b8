"""Candidates measured alone: each has a time, of its fastest run."""

from tests.runtime.layers import linear_layer

from gpmt.runtime.codegen import processor
from gpmt.runtime.execution import measuring_alone
from gpmt.runtime.execution.measuring_alone import measure_candidates
from gpmt.runtime.lowering.candidates import candidates
from gpmt.runtime.threads.thread_pool import ThreadPool


def test_more_work_takes_longer(monkeypatch):
    monkeypatch.setattr(measuring_alone, "_SECONDS", 1e-3)
    seconds = []
    for size in (8, 512):
        layer = linear_layer(16, size, size)
        found = candidates(layer, processor.host(), 1)[:2]
        planes = {"input": layer.input, "output": layer.output}
        seconds.append(measure_candidates(found, planes, ThreadPool.shared(1), rounds=1))
    assert [len(times) for times in seconds] == [2, 2]
    assert max(seconds[0]) < min(seconds[1])
