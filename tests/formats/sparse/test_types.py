import pytest
import torch

from gpmt.errors import CheckpointError
from gpmt.formats.sparse.header import SIZES
from gpmt.formats.sparse.types import CODES, DTYPES, check_dtype


def test_the_header_knows_the_size_of_every_type():
    assert {code: dtype.itemsize for code, dtype in DTYPES.items()} == SIZES
    assert {dtype: check_dtype("a", dtype) for dtype in CODES} == CODES


def test_a_type_that_the_format_does_not_have():
    with pytest.raises(
        CheckpointError, match=r"^a is torch.complex128, which a sparse file cannot hold; convert it"
    ):
        check_dtype("a", torch.complex128)
