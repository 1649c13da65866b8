"""Activation functions in LLVM IR: clamp (ReLU and ReLU6 too), SiLU, sigmoid, hard swish.

All take and return a float32 or a vector of them.
"""

from __future__ import annotations

from typing import assert_never

from llvmlite import ir

from gpmt.runtime.codegen.emitter import I32, Emitter, float_constant
from gpmt.runtime.ir.activation import Activation


def activate(e: Emitter, value: ir.Value, activation: Activation) -> ir.Value:
    """Return the activation of a value."""
    builder, kind = e.builder, value.type
    match activation.kind:
        case "none":
            return value
        case "clamp":
            return clamp(e, value, activation.low, activation.high)
        case "silu" | "sigmoid":
            one = float_constant(kind, 1.0)
            numerator = value if activation.kind == "silu" else one
            return builder.fdiv(numerator, builder.fadd(one, exp_negated(e, value)))
        case "hardswish":
            gate = clamp(e, builder.fadd(value, float_constant(kind, 3.0)), 0.0, 6.0)
            return builder.fmul(builder.fmul(value, gate), float_constant(kind, 1 / 6))
        case _:
            assert_never(activation.kind)


def clamp(e: Emitter, value: ir.Value, low: float, high: float) -> ir.Value:
    """Return a value limited to [low, high]; NaN stays NaN."""
    builder = e.builder
    if low != float("-inf"):
        bound = float_constant(value.type, low)
        value = builder.select(builder.fcmp_ordered("<", value, bound), bound, value)
    if high != float("inf"):
        bound = float_constant(value.type, high)
        value = builder.select(builder.fcmp_ordered(">", value, bound), bound, value)
    return value


def exp_negated(e: Emitter, value: ir.Value) -> ir.Value:
    """Return e^-x with an error of about two units in the last place; infinity below -88.4, e^-87 above 87.

    With n the integer nearest to -x / ln 2, and s = x + n ln 2, it is 2^n e^-s where |s| <= ln 2 / 2. For e^-s
    it takes the minimax polynomial of degree 5 that is exact at 0; its error is at most 9.2e-8.
    """
    builder, kind = e.builder, value.type
    integers = ir.VectorType(I32, kind.count) if isinstance(kind, ir.VectorType) else I32
    mantissa_bits = [23] * kind.count if isinstance(kind, ir.VectorType) else 23

    def constant(number: float) -> ir.Constant:
        return float_constant(kind, number)

    x = clamp(e, value, -88.8, 87.0)
    # Adding 1.5 · 2^23 rounds to an integer, which is then in the last bits of the sum. 127 is the bias of exponents:
    # with it these bits, shifted up, are those of 2^n; infinity for n = 128.
    magic = constant(12582912.0 + 127)
    rounded = e.fma(x, constant(-1.4426950408889634), magic)
    power = builder.shl(builder.bitcast(rounded, integers), ir.Constant(integers, mantissa_bits))
    n = builder.fsub(rounded, magic)
    # ln 2 in two parts; products of the first part with n are exact.
    s = e.fma(n, constant(0.693359375), x)
    s = e.fma(n, constant(-2.12194440054690583e-4), s)
    square = builder.fmul(s, s)
    low = e.fma(s, constant(-0.9999997019767761), constant(1.0))
    middle = e.fma(s, constant(-0.16667640209197998), constant(0.49999144673347473))
    high = e.fma(s, constant(-0.008290222845971584), constant(0.04189842566847801))
    polynomial = e.fma(square, e.fma(square, high, middle), low)
    return builder.fmul(polynomial, builder.bitcast(power, kind))
