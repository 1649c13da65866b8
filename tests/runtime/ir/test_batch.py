"""The batch of a graph, and its graph for another one."""

from dataclasses import replace

import pytest
import torch
from tests.runtime.ir.examples import EXAMPLES, graph_of

from gpmt.runtime.ir.batch import batch_of, common_batch, rebatched
from gpmt.runtime.ir.operators import Conv, Fallback, Linear, Reshape
from gpmt.runtime.ir.validation import check_graph
from gpmt.runtime.ir.values import Value


@pytest.fixture
def graph():
    return graph_of(*EXAMPLES[Conv])


def test_only_a_dynamic_batch_is_returned(graph):
    assert batch_of(graph) is None
    assert batch_of(replace(graph, dynamic_batch=True)) == 2


@pytest.mark.parametrize("batch", [1, 7])
@pytest.mark.parametrize("kind", [Conv, Linear])
def test_another_batch_changes_the_first_dimension_only(kind, batch):
    graph = replace(graph_of(*EXAMPLES[kind]), dynamic_batch=True)
    other = rebatched(graph, batch)
    check_graph(other)
    assert batch_of(other) == batch
    assert batch_of(graph) == 2
    for name, value in graph.values.items():
        assert other.values[name] == replace(value, shape=(batch, *value.shape[1:]))


def test_a_graph_without_a_common_batch(graph):
    assert common_batch(graph) == 2
    assert common_batch(graph_of(*EXAMPLES[Fallback])) is None
    assert common_batch(graph_of(Reshape("x", "y"), {"x": (2, 6), "y": (4, 3)})) is None
    assert common_batch(replace(graph, constants={"table": torch.zeros(2)})) is None
    assert common_batch(replace(graph, values={"x": Value("x", ())}, operators=[])) is None
    assert common_batch(replace(graph, inputs=[])) is None
