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


@pytest.mark.parametrize("format", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("shape", [(8, 4, 1, 1), (8, 1, 3, 3), (8, 1, 1, 3), (1, 1, 1, 1)])
def test_dimensions_of_size_1_may_have_any_stride(
    shape: tuple[int, ...], format: torch.memory_format
) -> None:
    plain = torch.randn(shape)
    assert same_bits(plain, plain.to(memory_format=format))
    assert integers(plain.to(memory_format=format)).shape == (plain.numel(),)
    one = torch.ones(2, 4)[:1, :1].T  # contiguous, as it has one element, with a last stride of 4
    assert same_bits(one, torch.ones(1, 1))


def test_types_count() -> None:
    assert not same_bits(torch.zeros(3), torch.zeros(3, dtype=torch.int32))
