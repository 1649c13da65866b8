"""Weights times their factors, against the formula on whole tensors."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gpmt.pruner import multiplication
from gpmt.pruner.multiplication import Factor, multiply_


def expected(weight: Tensor, gradient: Tensor, rate: float, alpha: float, beta: float, clip: float) -> Tensor:
    exponent = rate * (-alpha * weight.sign() * gradient - beta)
    return weight * exponent.clamp(-clip, clip).exp()


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=25, deadline=None)
@given(
    shapes=st.lists(st.tuples(st.integers(0, 9), st.integers(1, 7)), min_size=1, max_size=5),
    chunk=st.integers(1, 40),
    rate=st.sampled_from([0.5, 0.01]),
    on_device=st.booleans(),
)
def test_chunks_change_nothing(
    shapes: list[tuple[int, int]], chunk: int, rate: float, on_device: bool
) -> None:
    weights = [drawn(*shape, seed=index) for index, shape in enumerate(shapes)]
    gradients = [drawn(*shape, seed=100 + index) for index, shape in enumerate(shapes)]
    wanted = [
        expected(weight, gradient, rate, 2.0 + index, 1e-2, 0.3)
        for index, (weight, gradient) in enumerate(zip(weights, gradients, strict=True))
    ]
    rates = torch.tensor(rate) if on_device else rate
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(multiplication, "CHUNK", chunk)
        multiply_(
            [
                Factor(weight, gradient, rates, 2.0 + index, 1e-2, 0.3)
                for index, (weight, gradient) in enumerate(zip(weights, gradients, strict=True))
            ]
        )
    for weight, other in zip(weights, wanted, strict=True):
        torch.testing.assert_close(weight, other, rtol=1e-6, atol=0)


def test_zeros_stay_zero_and_no_factor_exceeds_the_clip() -> None:
    weight = torch.tensor([[0.0, 1.0, -1.0, 2.0]])
    multiply_([Factor(weight, torch.tensor([[9.0, torch.inf, torch.inf, -1e9]]), 1.0, 5.0, 0.0, 0.1)])
    low, high = torch.tensor([-0.1, 0.1]).exp().tolist()
    torch.testing.assert_close(weight, torch.tensor([[0.0, low, -high, 2 * high]]))
    assert not weight[0, 0].signbit()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_types_and_memory_formats(dtype: torch.dtype) -> None:
    weight = drawn(4, 6, 3, 3, seed=0).to(dtype).contiguous(memory_format=torch.channels_last)
    gradient, before = drawn(4, 6, 3, 3, seed=1).to(dtype), weight.clone()
    multiply_([Factor(weight, gradient, 0.5, 1.0, 0.0, 1.0)])
    torch.testing.assert_close(weight, expected(before, gradient, 0.5, 1.0, 0.0, 1.0), rtol=2e-2, atol=0)
    assert weight.is_contiguous(memory_format=torch.channels_last)


def test_a_skipped_step_changes_nothing() -> None:
    weight = drawn(3, 4, seed=0)
    before, gradient = weight.clone(), torch.full((3, 4), torch.nan)
    multiply_([Factor(weight, gradient, 0.5, 1.0, 0.0, 1.0)], skipped=torch.tensor([1.0]))
    assert torch.equal(weight, before)
    multiply_([Factor(weight, torch.ones(3, 4), 0.5, 1.0, 0.0, 1.0)], skipped=torch.tensor([0.0]))
    assert not torch.equal(weight, before)
