import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gpmt.core.budget.decimals import shortest_decimal

NUMPY = [np.float16, np.float32, np.float64]
TORCH = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@given(st.integers(0, 999))
def test_three_decimals_are_read_as_they_were_written(parts):
    for number in (np.float32(parts / 1000), np.float64(parts / 1000), np.array(parts / 1000, np.float32)):
        assert float(shortest_decimal(number)) == parts / 1000
    for dtype in (torch.float32, torch.float64):
        assert float(shortest_decimal(torch.tensor(parts / 1000, dtype=dtype))) == parts / 1000


@given(st.floats(0, 1, width=16))
def test_numpy_agrees(value):
    for kind in NUMPY:
        number = kind(value)
        assert float(shortest_decimal(number)) == float(str(number))


@pytest.mark.parametrize("dtype", TORCH)
@given(value=st.floats(-1, 1))
def test_the_decimal_rounds_to_the_number(dtype, value):
    tensor = torch.tensor(value, dtype=dtype)
    assert torch.tensor(float(shortest_decimal(tensor)), dtype=dtype) == tensor


@pytest.mark.parametrize("dtype", TORCH)
def test_nine_tenths_in_every_type(dtype):
    assert shortest_decimal(torch.tensor(0.9, dtype=dtype)) == "0.9"
    assert shortest_decimal(torch.tensor([0.9], dtype=dtype, requires_grad=True)) == "0.9"


@pytest.mark.parametrize(
    "value", [np.True_, torch.tensor(True), torch.zeros(2), np.zeros(2), np.zeros(0), np.complex64(1j), [0.9]]
)
def test_what_is_not_one_real_number(value):
    with pytest.raises(TypeError):
        shortest_decimal(value)
