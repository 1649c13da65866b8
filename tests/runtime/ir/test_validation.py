"""Legal graphs, and what is wrong with others."""

from dataclasses import replace

import pytest
import torch
from tests.runtime.ir.examples import EXAMPLES, IMAGE, array, graph_of

from gpmt.runtime.ir.graph import Graph
from gpmt.runtime.ir.operators import Add, Affine
from gpmt.runtime.ir.validation import GraphError, check_graph
from gpmt.runtime.ir.values import Value

ADD = EXAMPLES[Add]


@pytest.mark.parametrize("kind", EXAMPLES)
def test_examples_are_legal(kind):
    check_graph(graph_of(*EXAMPLES[kind]))


def changed(**fields):
    return replace(graph_of(*ADD), **fields)


def values(**others):
    return {**graph_of(*ADD).values, **others}


WRONG = {
    "order": (changed(inputs=["x"]), r"operator 0 \(Add\): it reads 'z' before that is made"),
    "twice": (
        changed(operators=[ADD[0]] * 2),
        r"operator 1 \(Add\): it makes 'y', which is unknown or there already",
    ),
    "unknown": (
        changed(values={n: v for n, v in values().items() if n != "y"}),
        "it makes 'y', which is unknown",
    ),
    "output": (changed(outputs=["other"]), "it returns 'other', which nothing makes"),
    "input": (changed(inputs=["x", "z", "more"]), "'more' has no type and shape"),
    "two inputs": (changed(inputs=["x", "z", "x"]), "an input or constant is there twice"),
    "name": (changed(values=values(x=Value("other", IMAGE))), "the value 'x' is called 'other'"),
    "shape": (changed(values=values(z=Value("z", (2, 4, 6, 7)))), "its inputs differ in shape"),
    "type": (changed(values=values(z=Value("z", IMAGE, torch.int64))), "'z' is torch.int64"),
}


@pytest.mark.parametrize("case", WRONG)
def test_graphs_that_are_not_legal(case):
    graph, message = WRONG[case]
    with pytest.raises(GraphError, match=message):
        check_graph(graph)


def test_affine_maps_of_vectors():
    check_graph(graph_of(Affine("x", "y", array(4), array(4), axis=-1), {"x": (2, 4), "y": (2, 4)}))
    graph = graph_of(Affine("x", "y", array(4), array(4)), {"x": (2, 4), "y": (2, 4)})
    with pytest.raises(GraphError, match="its input is not an image"):
        check_graph(graph)


def test_an_empty_graph_returns_its_input():
    check_graph(Graph({"x": Value("x", (2, 3))}, [], ["x"], ["x"]))
