"""The two ways to run a program: each is compiled once, by the first thread that needs it."""

import threading
import time

import pytest
from tests.runtime.networks import noise
from torch import nn

from gpmt.runtime.execution import executors as executors_module
from gpmt.runtime.execution.executors import Executors
from gpmt.runtime.frontend.capture import capture
from gpmt.runtime.passes.pipeline import optimize
from gpmt.runtime.threads.thread_pool import ThreadPool


@pytest.mark.parametrize("way", ["engine", "batch_executor"])
def test_threads_that_come_together_compile_once(way, monkeypatch):
    lower, calls = executors_module.lower, []

    def slow(*given):
        calls.append(given)
        time.sleep(0.05)  # for the others to come
        return lower(*given)

    monkeypatch.setattr(executors_module, "lower", slow)
    graph = optimize(capture(nn.Conv2d(3, 4, 3), noise(1, 3, 8, 8)).graph)
    executors = Executors(graph, ThreadPool.shared(2), tune=False)
    together, found = threading.Barrier(4), []

    def use():
        together.wait()
        found.append(getattr(executors, way))

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert len(found) == 4
    assert {*map(id, found)} == {id(getattr(executors, way))}
