"""Activations, number by number: as exact as float32 allows, and right where numbers are not finite."""

import ctypes

import numpy as np
import pytest

from gpmt.runtime.codegen import jit
from gpmt.runtime.codegen.emitter import Emitter
from gpmt.runtime.ir.activation import Activation

EXACT = {
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "hardswish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
}


def activated(kind, lanes, numbers):
    """Return what a kernel makes of numbers, whose count is a multiple of lanes."""
    e = Emitter(lanes)
    with e.loop(0, e.arg(2), 4 * lanes) as place:
        value = e.load(e.add(e.arg(0), place), e.vector)
        e.store(e.activate(value, Activation(kind)), e.add(e.arg(1), place))
    kernel = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(jit.load(e.text()))
    result = np.zeros_like(numbers)
    args = np.array([numbers.ctypes.data, result.ctypes.data, numbers.nbytes], np.int64)
    kernel(args.ctypes.data, 0)
    return result


@pytest.mark.parametrize("lanes", [4, 8, 16])
@pytest.mark.parametrize("kind", EXACT)
def test_activations_are_exact_to_some_units_in_the_last_place(kind, lanes):
    rng = np.random.default_rng(0)
    numbers = np.concatenate([np.linspace(-100, 100, 1 << 18), 3 * rng.standard_normal(1 << 16)])
    numbers = numbers.astype(np.float32)
    result, exact = activated(kind, lanes, numbers), EXACT[kind](numbers.astype(np.float64))
    # Below that float32 has fewer digits, or none; near -3, hard swish is a difference of larger numbers.
    floor = 1e-6 if kind == "hardswish" else 1e-35
    assert np.all(np.abs(result - exact) <= 3e-7 * np.abs(exact) + floor)


@pytest.mark.parametrize("lanes", [4, 8, 16])
def test_activations_of_what_is_not_finite(lanes):
    # NaNs differ in bits that no arithmetic looks at.
    odd = np.array([0x7FC00000, 0xFFC00001, 0x7FFFFFFF, 0x7FC001FF] * 4, np.uint32).view(np.float32)
    for kind in EXACT:
        assert np.isnan(activated(kind, lanes, odd)).all()
    ends = np.array([np.inf, -np.inf, 1e30, -1e30, 0.0, -0.0, 89.0, -89.0] * 2, np.float32)
    assert [*activated("sigmoid", lanes, ends)[:8]] == [1, 0, 1, 0, 0.5, 0.5, 1, 0]
    silu = activated("silu", lanes, ends)[:8]
    assert np.isnan(silu[1])  # -inf · 0, as in PyTorch
    assert [silu[0], *silu[2:]] == [np.inf, np.float32(1e30), 0, 0, 0, 89, 0]
