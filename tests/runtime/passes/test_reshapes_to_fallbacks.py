"""Reshapes become fallbacks beside fallbacks, and only there."""

from tests.runtime.networks import Lambda, check, noise


def test_reshapes_of_fallbacks():
    network = Lambda(lambda s, x: x.sin().flatten(1).view(2, 4, 9).cos())
    check(network, noise(2, 4, 3, 3), optimized={"sin, reshape, cos": 1})


def test_reshapes_that_something_native_reads_too():
    network = Lambda(lambda s, x: (lambda y: (y.sin(), y))((x * 2).flatten(1)))
    check(network, noise(2, 4, 3, 3), optimized={"Affine": 1, "Reshape": 1, "sin": 1})
