"""Bits of tensors, and when they are the same."""

import pytest
import torch

from gpmt.formats.bits import integers, same_bits


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.int8, torch.bool])
def test_integers_share_the_memory_of_a_tensor(dtype: torch.dtype) -> None:
    tensor = torch.zeros(2, 3, dtype=dtype)
    bits = integers(tensor)
    assert (bits.shape, bits.itemsize) == ((6,), dtype.itemsize)
    bits[4] = 1
    assert tensor.flatten().nonzero().tolist() == [[4]]


def test_signs_of_zeros_and_nan_count() -> None:
    odd = torch.tensor([0.0, float("nan")])
    assert same_bits(odd, odd.clone())
    assert not same_bits(odd, -odd)
    assert not same_bits(odd, odd.view(1, 2))
    assert same_bits(torch.tensor(1.0), torch.tensor(1.0))
    assert same_bits(torch.arange(6).view(2, 3).T, torch.arange(6).view(2, 3).T.contiguous())
