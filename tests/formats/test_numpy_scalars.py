"""NumPy's numbers in files of torch.save: plain ones are read, and no other state reaches NumPy."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gpmt.errors import CheckpointError
from gpmt.formats.numpy_scalars import NUMPY_GLOBALS
from gpmt.formats.torch_file import read_torch

CODES = ["b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"]
REPLACED = {name: replacement for replacement, name in NUMPY_GLOBALS}


def make(code: str) -> Any:
    return REPLACED["numpy.dtype"](code)


@pytest.mark.parametrize("code", CODES)
def test_scalars_become_python_numbers(tmp_path: Path, write: Any, code: str) -> None:
    write({"x": np.dtype(code).type(1)}, tmp_path / "a.pt")
    number = read_torch(tmp_path / "a.pt")["x"]
    assert number == 1
    assert type(number) in (bool, int, float, complex)


@pytest.mark.parametrize("code", CODES)
def test_arrays_keep_type_and_values_when_they_are_saved_again(tmp_path: Path, write: Any, code: str) -> None:
    array = np.arange(6).reshape(2, 3).astype(code)
    write({"x": array, "turned": array.T}, tmp_path / "a.pt")
    write(read_torch(tmp_path / "a.pt"), tmp_path / "b.pt")
    again = torch.load(tmp_path / "b.pt", weights_only=False)
    for found, expected in ((again["x"], array), (again["turned"], array.T)):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


def test_big_endian_numbers(tmp_path: Path) -> None:
    number = np.frombuffer(np.array([1.5], dtype=">f4").tobytes(), dtype=">f4")[0]
    torch.save({"x": number, "array": np.arange(3, dtype=">i2")}, tmp_path / "a.pt")
    found = read_torch(tmp_path / "a.pt")
    assert found["x"] == 1.5
    np.testing.assert_array_equal(found["array"].array, [0, 1, 2])


@pytest.mark.parametrize(
    "code", ["O8", "O", "V8", "U4", "S3", "M8[s]", "f16", "i3", "b8", "f8\n", "", 8, None]
)
def test_other_types_are_refused(code: Any) -> None:
    with pytest.raises(pickle.UnpicklingError, match=r"is not a type of plain numbers$"):
        make(code)


@pytest.mark.parametrize("value", [np.array([print, None]), np.str_("text"), np.zeros(1, [("a", "i4")])[0]])
def test_other_types_in_a_file_are_refused_by_name(tmp_path: Path, write: Any, value: Any) -> None:
    write({"x": value}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=r"would run code .* \(it needs numpy\.dtype\('[OUV]\d+'\)"):
        read_torch(tmp_path / "a.pt")


@given(raw=st.binary(max_size=20))
def test_a_scalar_has_the_bytes_of_one_number(raw: bytes) -> None:
    scalar = REPLACED["numpy.core.multiarray.scalar"]
    if len(raw) == 4:
        assert scalar(make("i4"), raw) == int.from_bytes(raw, "little", signed=True)
    else:
        with pytest.raises(ValueError, match=r"."):
            scalar(make("i4"), raw)


@pytest.mark.parametrize(("shape", "size"), [((2, 3), 20), ((2, 3), 28), ((1 << 40,), 24), ((-1, -1), 24)])
def test_an_array_has_as_many_bytes_as_its_shape_says(shape: tuple[int, ...], size: int) -> None:
    array = REPLACED["numpy.ndarray"]()
    with pytest.raises(ValueError, match=r"."):
        array.__setstate__((1, shape, make("i4"), False, bytes(size)))
