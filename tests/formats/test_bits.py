"""Bits of tensors, and when they are the same."""

import pytest
import torch

from gpmt.errors import GpmtError
from gpmt.formats.bits import integers, keeps_signs, nonzero, same_bits

FLOATS = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2,
]  # fmt: skip


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


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_a_negative_zero_is_a_zero(dtype: torch.dtype) -> None:
    numbers = torch.tensor([0.0, -0.0, 1.0, -1.0, float("nan"), 2.0**-9]).to(dtype)
    numbers.view(torch.uint8)[-dtype.itemsize :] = torch.tensor(
        [1] + [0] * (dtype.itemsize - 1)
    )  # the smallest
    assert nonzero(numbers).tolist() == [False, False, True, True, True, True]
    assert nonzero(numbers, signed_zeros=True).tolist() == [False, True, True, True, True, True]


def test_a_complex_number_is_zero_if_both_parts_are() -> None:
    parts = [0.0, -0.0, 1.0]
    numbers = torch.tensor([[real, imaginary] for real in parts for imaginary in parts])
    numbers = torch.view_as_complex(numbers)
    assert nonzero(numbers).tolist() == [False, False, True, False, False, True, True, True, True]
    assert nonzero(numbers, signed_zeros=True).tolist() == [False] + 8 * [True]


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int32, torch.int64, torch.uint16])
def test_the_first_bit_of_an_integer_is_no_sign_of_zero(dtype: torch.dtype) -> None:
    numbers = torch.zeros(2, dtype=dtype)
    integers(numbers)[1] = -(1 << (8 * dtype.itemsize - 1)) if dtype.itemsize > 1 else 128
    assert nonzero(numbers).tolist() == [False, True]


def test_what_is_asked_of_signs() -> None:
    assert [keeps_signs("drop"), keeps_signs("keep")] == [False, True]
    with pytest.raises(GpmtError, match="signed_zeros is 'yes', but must be drop or keep"):
        keeps_signs("yes")  # type: ignore[arg-type]
