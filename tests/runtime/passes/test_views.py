"""What chains of reshapes, permutations and slices read, against PyTorch's strides."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.runtime.networks import noise
from tests.runtime.reference import run

from gpmt.runtime.ir.graph import Graph
from gpmt.runtime.ir.operators import Permute, PixelsToTokens, Reshape, Slice, TokensToPixels
from gpmt.runtime.ir.values import Value
from gpmt.runtime.passes.rewriting import Rule, rewrite
from gpmt.runtime.passes.views import merged, view_of


def chain(shape, *operators, shapes):
    """Return a graph of operators one after the other, whose values are v0, v1, ... of these shapes."""
    values = {f"v{i}": Value(f"v{i}", one) for i, one in enumerate([shape, *shapes])}
    return Graph(values, list(operators), ["v0"], [f"v{len(shapes)}"])


def viewed(graph):
    """Return the view of the last value of a chain."""
    found = []

    def keep(rewriter, operator):
        rewriter.append(operator)
        found.append(view_of(rewriter, operator.output))
        return True

    rewrite(graph, [Rule(type(op), keep) for op in {type(op): op for op in graph.operators}.values()])
    return found[-1]


@st.composite
def chains(draw):
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)))
    operators, shapes, current = [], [], shape
    for i in range(draw(st.integers(1, 5))):
        names = f"v{i}", f"v{i + 1}"
        kind = draw(st.sampled_from(["permute", "split", "merge", "slice"]))
        axis = draw(st.integers(0, len(current) - 1))
        if kind == "permute":
            order = tuple(draw(st.permutations(range(len(current)))))
            operators.append(Permute(*names, order))
            current = tuple(current[a] for a in order)
        elif kind == "split":
            size = current[axis]
            part = draw(st.sampled_from([d for d in range(1, size + 1) if size % d == 0]))
            current = (*current[:axis], part, size // part, *current[axis + 1 :])
            operators.append(Reshape(*names))
        elif kind == "merge" and axis + 1 < len(current):
            current = (*current[:axis], current[axis] * current[axis + 1], *current[axis + 2 :])
            operators.append(Reshape(*names))
        else:
            first = draw(st.integers(0, current[axis] - 1))
            count = draw(st.integers(1, current[axis] - first))
            operators.append(Slice(*names, first, axis))
            current = (*current[:axis], count, *current[axis + 1 :])
        shapes.append(current)
    return chain(shape, *operators, shapes=shapes)


@settings(max_examples=60)
@given(chains())
def test_a_view_reads_what_the_chain_reads(graph):
    source = noise(*graph.values["v0"].shape)
    values = run(graph, [source])[0].reshape(-1)
    view = viewed(graph)
    assert len(view.dims) == len(graph.values[graph.outputs[0]].shape)
    if view.source == "v0":
        sizes, strides = zip(*view.atoms, strict=True) if view.atoms else ((), ())
        read = source.reshape(-1).as_strided(sizes, strides, view.offset)
        assert read.reshape(-1).tolist() == values.tolist()


def test_pixels_are_tokens_and_back():
    shapes = [(2, 30, 3), (2, 3, 5, 6)]
    graph = chain((2, 3, 5, 6), PixelsToTokens("v0", "v1"), TokensToPixels("v1", "v2"), shapes=shapes)
    assert viewed(graph).atoms == ((180, 1),)


def test_a_part_of_two_dimensions_is_no_view():
    """Three of two times two elements cannot be told by sizes and strides."""
    graph = chain(
        (2, 3, 2), Permute("v0", "v1", (0, 2, 1)), Reshape("v1", "v2"), Slice("v2", "v3", 0, 0),
        shapes=[(2, 2, 3), (4, 3), (3, 3)],
    )  # fmt: skip
    assert viewed(graph).source != "v0"


@pytest.mark.parametrize(
    ("atoms", "expected"),
    [([(2, 12), (3, 4), (4, 1)], ((24, 1),)), ([(3, 4), (1, 99), (4, 1)], ((12, 1),)), ([(1, 5)], ())],
)
def test_neighbours_are_merged(atoms, expected):
    assert merged(atoms) == expected
