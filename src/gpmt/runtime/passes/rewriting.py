"""One walk over the operators of a graph, in which rules merge each with the operators before it.

All rules share the walk, instead of a sweep of the graph for each, because they depend on one another's results: a
convolution takes a batch-norm, after that the sum behind it, and after that the activation behind the sum. Which of
two convolutions takes a sum depends on which is the later one in the rewritten graph so far.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from gpmt.runtime.ir.graph import Graph
from gpmt.runtime.ir.operator import Operator, reads, renamed, writes


@dataclass(frozen=True)
class Rule:
    """How operators of one type are merged with those before them.

    Attributes:
        type: which operators it is asked for.
        apply: changes the graph and returns True, or changes nothing and returns False. The operator is not part of
            the graph yet.
    """

    type: type[Operator]
    apply: Callable[[Rewriter, Any], bool]


def rule(type: type[Operator]) -> Callable[[Callable[[Rewriter, Any], bool]], Rule]:
    """Make a rule for operators of a type out of a function."""
    return lambda apply: Rule(type, apply)


def rewrite(graph: Graph, rules: Sequence[Rule]) -> Graph:
    """Return the graph after its operators were given to the first rule that applies, one by one."""
    rewriter = Rewriter(graph, rules)
    for operator in graph.operators:
        rewriter.add(operator)
    return rewriter.finish()


class Rewriter:
    """A graph in construction: the operators that are rewritten so far.

    Attributes:
        values: all values by name; some may no longer be used.
        constants: tensors of the values that are there from the start.
        read_counts: how often each value is read, also by operators that are still to come and by outputs.
    """

    def __init__(self, graph: Graph, rules: Sequence[Rule]) -> None:
        self.values = dict(graph.values)
        self.constants = graph.constants
        self.read_counts = Counter(graph.outputs)
        for operator in graph.operators:
            self.read_counts.update(reads(operator))
        self._source = graph
        self._rules = rules
        self._operators: list[Operator | None] = []  # None where one was removed
        self._place: dict[str, int] = {}  # in `_operators`, of the one that writes a value
        self._alias: dict[str, str] = {}

    def add(self, operator: Operator) -> None:
        """Give the next operator to the first rule that applies, or append it."""
        operator = renamed(operator, self._alias)
        for one in self._rules:
            if isinstance(operator, one.type) and one.apply(self, operator):
                return
        self.append(operator)

    def append(self, operator: Operator) -> None:
        """Append an operator as it is."""
        for name in writes(operator):
            self._place[name] = len(self._operators)
        self._operators.append(operator)

    def place(self, name: str) -> int:
        """Return the place of the operator that writes a value, -1 where none does."""
        return self._place.get(name, -1)

    def producer(self, name: str) -> Operator | None:
        """Return the operator that writes a value."""
        return self._operators[self._place[name]] if name in self._place else None

    def sole_producer(self, name: str) -> Operator | None:
        """Return the operator that writes a value, if the value is read once."""
        return self.producer(name) if self.read_counts[name] == 1 else None

    def remove(self, name: str) -> None:
        """Remove the operator that writes a value."""
        self._operators[self._place.pop(name)] = None

    def replace(self, old: Operator, new: Operator) -> None:
        """Put an operator in the place of another; both have one output."""
        (before,), (after,) = writes(old), writes(new)
        place = self._place.pop(before)
        self._operators[place] = new
        self._place[after] = place

    def alias(self, name: str, other: str) -> None:
        """Let all later operators read another value instead of this one."""
        self._alias[name] = other
        self.read_counts[other] += self.read_counts.pop(name, 0) - 1

    def finish(self) -> Graph:
        """Return the graph."""
        source = self._source
        operators = [operator for operator in self._operators if operator is not None]
        outputs = [self._alias.get(name, name) for name in source.outputs]
        return Graph(self.values, operators, source.inputs, outputs, source.constants)
