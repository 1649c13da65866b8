"""Activation functions in LLVM IR: clamp (ReLU and ReLU6 too), SiLU, sigmoid, tanh, hard swish, GELU, leaky ReLU.

All take and return a float32 or a vector of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import assert_never

from llvmlite import ir

from gpmt.runtime.codegen.emitter import I32, Emitter, float_constant
from gpmt.runtime.ir.activation import Activation

_TANH_LINEAR = 2 * math.sqrt(2 / math.pi)
_TANH_CUBE = 0.044715 * _TANH_LINEAR
# erf(x) = x · P(x²) / Q(x²) for |x| <= 3.9, with Q(0) = 1: an error of 1.5e-8 by weighted least squares, made even.
_ERF_LIMIT = 3.9
_ERF_P = (
    1.128378987312317,
    0.19194307923316956,
    0.05296715348958969,
    0.0038369554094970226,
    0.0002874573110602796,
    2.0503475752775557e-06,
)
_ERF_Q = (
    1.0,
    0.5034369230270386,
    0.11475902050733566,
    0.01510936301201582,
    0.0011817504419013858,
    3.8230336940614507e-05,
)


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
        case "tanh":
            # 2 · sigmoid(2x) - 1; its error is that of a number near 1.
            double = builder.fadd(value, value)
            gate = builder.fdiv(
                float_constant(kind, 2.0), builder.fadd(float_constant(kind, 1.0), exp_negated(e, double))
            )
            return builder.fsub(gate, float_constant(kind, 1.0))
        case "gelu":
            return _gelu(e, value)
        case "gelu_tanh":
            # x/2 · (1 + tanh(u)) = x · sigmoid(2u), where 2u = x · (a + b x²).
            inner = e.fma(
                builder.fmul(value, value),
                float_constant(kind, _TANH_CUBE),
                float_constant(kind, _TANH_LINEAR),
            )
            decay = exp_negated(e, builder.fmul(value, inner))
            return builder.fdiv(value, builder.fadd(float_constant(kind, 1.0), decay))
        case "leaky_relu":
            below = builder.fcmp_ordered("<", value, float_constant(kind, 0.0))
            return builder.select(below, builder.fmul(value, float_constant(kind, activation.low)), value)
        case _:
            assert_never(activation.kind)


def _gelu(e: Emitter, value: ir.Value) -> ir.Value:
    """Return x/2 · (1 + erf(x / √2)) with an error of some units in the last place of x; 0 below -5.52."""
    builder, kind = e.builder, value.type
    x = clamp(e, builder.fmul(value, float_constant(kind, math.sqrt(0.5))), -_ERF_LIMIT, _ERF_LIMIT)
    square = builder.fmul(x, x)
    numerator, denominator = (_polynomial(e, square, parts) for parts in (_ERF_P, _ERF_Q))
    error = builder.fdiv(builder.fmul(x, numerator), denominator)
    half = builder.fmul(value, float_constant(kind, 0.5))
    low = float_constant(kind, -_ERF_LIMIT * math.sqrt(2))
    far = builder.fcmp_ordered("<", value, low)
    return builder.select(far, float_constant(kind, 0.0), e.fma(half, error, half))


def _polynomial(e: Emitter, value: ir.Value, coefficients: Sequence[float]) -> ir.Value:
    """Return c₀ + c₁ x + c₂ x² + ..."""
    result = float_constant(value.type, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        result = e.fma(result, value, float_constant(value.type, coefficient))
    return result


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
