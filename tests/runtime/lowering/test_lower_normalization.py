"""Normalisations read vectors, or images where their features are channels."""

from tests.runtime.ir.examples import EXAMPLES, array
from tests.runtime.lowering.lowered import lowered, one_step

from gpmt.runtime.ir.operators import GroupNorm, LayerNorm


def test_layouts():
    step, candidate = one_step(lowered(*one(LayerNorm)), "RMS norm")
    assert step.buffers == {"input": "x:images", "output": "y:images"}
    assert not candidate.spec.centred
    norm = LayerNorm("x", "y", array(6), array(6), 1e-5)
    step, candidate = one_step(lowered([norm], {"x": (2, 5, 6), "y": (2, 5, 6)}), "layer norm")
    assert step.buffers == {"input": "x:vectors", "output": "y:vectors"}
    assert candidate.spec.centred
    step, _ = one_step(lowered(*one(GroupNorm)), "group norm")
    assert step.buffers == {"input": "x:images", "output": "y:images"}


def one(kind):
    operator, shapes = EXAMPLES[kind]
    return [operator], shapes
