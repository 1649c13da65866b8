"""Programs for tests, and how their results are compared."""

import torch
from tests.runtime.networks import noise

import gpmt

SHAPE = (2, 3, 8, 9)


def compiled(network, *inputs, threads=1):
    return gpmt.compile(network, inputs or (noise(*SHAPE),), threads=threads, tune=False)


def close(result, expected, tolerance=1e-5):
    assert result.shape == expected.shape
    torch.testing.assert_close(result, expected, rtol=tolerance, atol=tolerance)
