"""Operators as calls of PyTorch compute what the operators do, and can be saved."""

import pytest
from tests.runtime.ir.examples import EXAMPLES, graph_of
from tests.runtime.networks import noise
from tests.runtime.reference import run

from gpmt.runtime.ir.operator import reads
from gpmt.runtime.ir.operators import Attention, HeadAttention, Pool
from gpmt.runtime.ir.torch_calls_encoding import encode_calls
from gpmt.runtime.passes.torch_equivalents import as_fallback, has_calls

KINDS = [kind for kind in EXAMPLES if has_calls(EXAMPLES[kind][0]) and kind not in (HeadAttention, Pool)]


@pytest.mark.parametrize("kind", KINDS)
def test_the_calls_are_the_operator(kind):
    operator, shapes = EXAMPLES[kind]
    graph = graph_of(operator, shapes)
    inputs = [noise(*shapes[name], seed=i) for i, name in enumerate(graph.inputs)]
    (expected,) = run(graph, inputs)
    fallback = as_fallback(graph, operator, "a reason")
    assert fallback.reason == "a reason"
    assert {*fallback.inputs} == {*reads(operator), *graph.constants}
    assert encode_calls(fallback.calls) is not None
    graph.operators[:] = [fallback]
    (result,) = run(graph, inputs)
    assert (result - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_operators_with_kernels_of_their_own_have_no_calls():
    assert not has_calls(EXAMPLES[Attention][0])
