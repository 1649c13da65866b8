"""The walk over a graph: rules are asked in order, and later operators read what replaces a value."""

import pytest

from gpmt.runtime.ir.graph import Graph
from gpmt.runtime.ir.operators import Add, Reshape
from gpmt.runtime.ir.values import Value
from gpmt.runtime.passes.rewriting import rewrite, rule


@pytest.fixture
def graph():
    """Return y = x, z = x + y, both of them outputs."""
    values = {name: Value(name, (1, 2, 3, 3)) for name in "xyz"}
    return Graph(values, [Reshape("x", "y"), Add("x", "y", "z")], ["x"], ["y", "z"])


def test_the_first_rule_that_applies_is_the_last_that_is_asked(graph):
    asked = []

    def noting(name, applies):
        @rule(Reshape)
        def note(rewriter, operator):
            asked.append(name)
            if applies:
                rewriter.append(operator)
            return applies

        return note

    assert rewrite(graph, [noting("a", False), noting("b", True), noting("c", True)]) == graph
    assert asked == ["a", "b"]


def test_later_operators_and_outputs_read_an_alias(graph):
    counts = {}

    @rule(Reshape)
    def remove(rewriter, reshape):
        rewriter.alias(reshape.output, reshape.input)
        counts.update(rewriter.read_counts)
        return True

    result = rewrite(graph, [remove])
    assert result.operators == [Add("x", "x", "z")]
    assert result.outputs == ["x", "z"]
    # Twice by the sum, once as an output.
    assert counts["x"] == 3
    assert graph.operators[0] == Reshape("x", "y"), "the graph itself has changed"


def test_producers(graph):
    found = []

    @rule(Add)
    def look(rewriter, add):
        found.extend([rewriter.producer("y"), rewriter.sole_producer("y"), rewriter.producer("x")])
        found.append(rewriter.place("y"))
        rewriter.replace(rewriter.producer("y"), Reshape("x", "w"))
        found.extend([rewriter.producer("y"), rewriter.producer("w"), rewriter.place("w")])
        return False

    rewrite(graph, [look])
    # "y" is read by the sum and returned.
    assert found == [Reshape("x", "y"), None, None, 0, None, Reshape("x", "w"), 0]
