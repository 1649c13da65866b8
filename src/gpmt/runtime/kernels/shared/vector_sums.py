"""The sum of the elements of a vector."""

from __future__ import annotations

from llvmlite import ir

from gpmt.runtime.codegen.emitter import I32, Emitter


def sum_of_elements(e: Emitter, value: ir.Value) -> ir.Value:
    """Return the sum of a vector's elements: halves are added until one element is left."""
    count = e.lanes
    while count > 1:
        count //= 2
        halves = [ir.Constant(ir.VectorType(I32, count), list(range(i, i + count))) for i in (0, count)]
        low, high = (e.builder.shuffle_vector(value, value, half) for half in halves)
        value = e.builder.fadd(low, high)
    return e.builder.extract_element(value, ir.Constant(I32, 0))
