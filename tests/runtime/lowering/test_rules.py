"""The table of lowering rules: complete, without doubles, and open to other operators."""

from dataclasses import dataclass

import pytest

from gpmt.runtime.codegen import processor
from gpmt.runtime.ir.graph import Graph
from gpmt.runtime.ir.operator import OPERATORS, Operator
from gpmt.runtime.ir.operators import Conv
from gpmt.runtime.ir.values import Value
from gpmt.runtime.lowering.lower import lower
from gpmt.runtime.lowering.rules import LOWERINGS, lowers, rule_of


@dataclass(frozen=True)
class Negate(Operator):
    """An operator that the runtime does not have."""

    input: str
    output: str


@pytest.fixture
def no_new_rules(monkeypatch):
    monkeypatch.setattr("gpmt.runtime.lowering.rules.LOWERINGS", dict(LOWERINGS))


@pytest.mark.parametrize("operator", OPERATORS)
def test_every_operator_has_a_rule(operator):
    assert callable(rule_of(operator))


def test_an_operator_has_only_one_rule(no_new_rules):
    with pytest.raises(ValueError, match="Conv has a lowering rule already: lower_conv"):
        lowers(Conv)(lambda op, context: None)


def test_an_operator_without_a_rule_is_an_error():
    graph = Graph({"x": Value("x", (2,)), "y": Value("y", (2,))}, [Negate("x", "y")], ["x"], ["y"])
    with pytest.raises(TypeError, match=r"Negate has no lowering rule; register one with gpmt\.\S+lowers"):
        lower(graph, processor.host(), 1)


def test_a_registered_rule_adds_the_steps(no_new_rules):
    @lowers(Negate)
    def lower_negate(op, context):
        source = context.layouts.as_tensor(op.input)
        context.steps.add_torch("negate", (source,), (op.output,), lambda tensor: (-tensor,))
        context.layouts.set_tensor(op.output)

    graph = Graph({"x": Value("x", (2,)), "y": Value("y", (2,))}, [Negate("x", "y")], ["x"], ["y"])
    assert [step.label for step in lower(graph, processor.host(), 1).steps] == ["negate"]
