"""Engines for tests, with the first candidate of every step."""

import torch
from tests.runtime.networks import scramble
from torch import nn

from gpmt.runtime.codegen import processor
from gpmt.runtime.execution.engine import Engine
from gpmt.runtime.frontend.capture import capture
from gpmt.runtime.lowering.lower import lower
from gpmt.runtime.lowering.steps import NativeStep
from gpmt.runtime.passes.pipeline import optimize
from gpmt.runtime.threads.thread_pool import ThreadPool


def engine_of(network, *inputs, threads=1, **more):
    """Return an engine, and the graph."""
    graph = optimize(capture(scramble(network), inputs).graph)
    lowered = lower(graph, processor.host(), threads)
    return Engine(lowered, choices_of(lowered), graph.constants, ThreadPool.shared(threads), **more), graph


def choices_of(lowered):
    """Return the first candidate of every native step."""
    return [step.candidates(lowered.planes)[0] for step in lowered.steps if isinstance(step, NativeStep)]


def run(network, *inputs, **more):
    """Return what an engine of a network returns."""
    engine, graph = engine_of(network, *inputs, **more)
    return engine.run(dict(zip(graph.inputs, inputs, strict=True)), graph.outputs)


def chain(length):
    """Return a network of so many convolutions."""
    torch.manual_seed(0)
    return nn.Sequential(*[nn.Conv2d(8, 8, 3, padding=1) for _ in range(length)])
