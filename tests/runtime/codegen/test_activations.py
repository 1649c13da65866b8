"""Activations element by element: exact to some units in the last place, and right for what is not finite."""

import ctypes

import numpy as np
import pytest
import torch

from gpmt.runtime.codegen import jit
from gpmt.runtime.codegen.activations import activate
from gpmt.runtime.codegen.emitter import Emitter
from gpmt.runtime.ir.activation import Activation

EXACT = {
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "hardswish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "tanh": np.tanh,
    "gelu": lambda x: torch.nn.functional.gelu(torch.from_numpy(x)).numpy(),
    "gelu_tanh": lambda x: torch.nn.functional.gelu(torch.from_numpy(x), approximate="tanh").numpy(),
}
# Errors of differences of numbers near 1, and near 3; below 1e-35 float32 has fewer digits, or none.
FLOORS = {"hardswish": 1e-6, "tanh": 2.5e-7, "gelu": 1e-6, "gelu_tanh": 1e-6}


def activated(kind, lanes, values, **bounds):
    """Return the activation of values, whose number is a multiple of lanes."""
    e = Emitter(lanes, ("input", "output", "bytes"))
    with e.loop(0, e.arg("bytes"), 4 * lanes) as offset:
        value = e.load(e.add(e.arg("input"), offset), e.vector)
        e.store(activate(e, value, Activation(kind, **bounds)), e.add(e.arg("output"), offset))
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
    assert np.all(np.abs(result - exact) <= 3e-7 * np.abs(exact) + FLOORS.get(kind, 1e-35))


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
    assert [*activated("gelu", lanes, ends)[:8]] == [np.inf, 0, np.float32(1e30), 0, 0, 0, 89, 0]
    assert [*activated("tanh", lanes, ends)[:8]] == [1, -1, 1, -1, 0, 0, 1, -1]


@pytest.mark.parametrize("lanes", [4, 8, 16])
def test_leaky_relu(lanes):
    values = np.random.default_rng(0).standard_normal(1 << 10).astype(np.float32)
    expected = np.where(values < 0, np.float32(0.25) * values, values)
    np.testing.assert_array_equal(activated("leaky_relu", lanes, values, low=0.25), expected)
