"""Activations element by element: exact to some units in the last place, and right for what is not finite."""

import ctypes

import numpy as np
import pytest

from gpmt.runtime.codegen import jit
from gpmt.runtime.codegen.activations import activate
from gpmt.runtime.codegen.emitter import Emitter
from gpmt.runtime.ir.activation import Activation

EXACT = {
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "hardswish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
}


def activated(kind, lanes, values):
    """Return the activation of values, whose number is a multiple of lanes."""
    e = Emitter(lanes, ("input", "output", "bytes"))
    with e.loop(0, e.arg("bytes"), 4 * lanes) as offset:
        value = e.load(e.add(e.arg("input"), offset), e.vector)
        e.store(activate(e, value, Activation(kind)), e.add(e.arg("output"), offset))
    kernel = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(jit.load(e.text()))
    result = np.zeros_like(values)
    args = np.array([values.ctypes.data, result.ctypes.data, values.nbytes], np.int64)
    kernel(args.ctypes.data, 0)
    return result


@pytest.mark.parametrize("lanes", [4, 8, 16])
@pytest.mark.parametrize("kind", EXACT)
def test_values_are_exact_to_some_units_in_the_last_place(kind, lanes):
    rng = np.random.default_rng(0)
    values = np.concatenate([np.linspace(-100, 100, 1 << 18), 3 * rng.standard_normal(1 << 16)])
    values = values.astype(np.float32)
    result, exact = activated(kind, lanes, values), EXACT[kind](values.astype(np.float64))
    # Below 1e-35 float32 has fewer digits, or none; near -3, hard swish is a difference of larger values.
    floor = 1e-6 if kind == "hardswish" else 1e-35
    assert np.all(np.abs(result - exact) <= 3e-7 * np.abs(exact) + floor)


@pytest.mark.parametrize("lanes", [4, 8, 16])
def test_values_that_are_not_finite(lanes):
    # NaNs differ in bits that no arithmetic looks at.
    odd = np.array([0x7FC00000, 0xFFC00001, 0x7FFFFFFF, 0x7FC001FF] * 4, np.uint32).view(np.float32)
    for kind in EXACT:
        assert np.isnan(activated(kind, lanes, odd)).all()
    ends = np.array([np.inf, -np.inf, 1e30, -1e30, 0.0, -0.0, 89.0, -89.0] * 2, np.float32)
    assert [*activated("sigmoid", lanes, ends)[:8]] == [1, 0, 1, 0, 0.5, 0.5, 1, 0]
    silu = activated("silu", lanes, ends)[:8]
    assert np.isnan(silu[1])  # -inf · 0, as in PyTorch
    assert [silu[0], *silu[2:]] == [np.inf, np.float32(1e30), 0, 0, 0, 89, 0]
