"""Pools and means of channels: their kernels, and the stride of a single window."""

import pytest
from tests.runtime.lowering.lowered import labels, lowered, one_step
from tests.runtime.networks import noise
from torch import nn

from gpmt.runtime.ir.operators import GlobalMean, Pool
from gpmt.runtime.kernels.global_mean import GlobalMeanKernel
from gpmt.runtime.kernels.max_pool import MaxPoolKernel
from gpmt.runtime.kernels.mean_pool import MeanPoolKernel

KINDS = [("max", MaxPoolKernel), ("mean", MeanPoolKernel)]


@pytest.mark.parametrize(("kind", "kernel"), KINDS)
@pytest.mark.parametrize(
    ("stride", "output", "expected"),
    [
        ((2, 3), (1, 3, 3, 3), (2, 3)),
        ((1, 7), (1, 3, 6, 2), (1, 7)),
        # One window across, or one in all.
        ((2, 1000), (1, 3, 3, 1), (2, 1)),
        ((1000, 8), (1, 3, 1, 1), (1000, 1)),
    ],
)
def test_strides(kind, kernel, stride, output, expected):
    graph = lowered([Pool("x", "y", kind, (2, 2), stride)], {"x": (1, 3, 7, 9), "y": output})
    _, candidate = one_step(graph, f"{kind} pool")
    assert type(candidate.spec) is kernel
    assert (candidate.spec.kernel, candidate.spec.stride) == ((2, 2), expected)


@pytest.mark.parametrize("count_padding", [False, True])
def test_a_mean_is_given_its_padding_and_scales(count_padding):
    pool = Pool("x", "y", "mean", (3, 2), (2, 2), (1, 0, 1, 1), count_padding)
    _, candidate = one_step(lowered([pool], {"x": (1, 3, 7, 9), "y": (1, 3, 4, 5)}), "mean pool")
    spec = candidate.spec
    assert (spec.padding, spec.count_padding) == ((1, 0, 1, 1), count_padding)
    assert (candidate.arrays()["scales"] == spec.scales()).all()


@pytest.mark.parametrize("output", [(2, 4), (2, 4, 1, 1)])
def test_means_of_channels_are_vectors(output):
    graph = lowered([GlobalMean("x", "y")], {"x": (2, 4, 5, 6), "y": output})
    step, candidate = one_step(graph, "mean")
    assert type(candidate.spec) is GlobalMeanKernel
    assert step.buffers == {"input": "x:images", "output": "y:vectors"}


@pytest.mark.parametrize("pool", [nn.MaxPool2d, nn.AvgPool2d])
def test_a_wide_stride_of_one_window_is_computed_right(pool):
    assert labels(pool((2, 3), (2, 500)), noise(2, 3, 7, 6)) == [
        "import",
        "max pool" if pool is nn.MaxPool2d else "mean pool",
        "export",
    ]
