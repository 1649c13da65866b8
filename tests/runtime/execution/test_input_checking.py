"""Inputs that a program refuses: the error names the input, its value and the remedy."""

import numpy as np
import pytest
import torch
from tests.runtime.networks import mixed, noise
from tests.runtime.programs import SHAPE, close, compiled
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.testing._internal.two_tensor import TwoTensor

from gpmt.errors import RuntimeProgramError
from gpmt.runtime.execution.input_checking import check_indices, table_rows
from gpmt.runtime.ir.operators import Embedding


def freed_memory():
    images = noise(*SHAPE)
    images.untyped_storage().resize_(0)
    return images


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        (
            lambda: [noise(2, 3, 8, 10)],
            r"input has the shape \[2, 3, 8, 10\], but the program was compiled for \[batch, 3, 8, 9\]; "
            "compile another one for this shape",
        ),
        (
            lambda: [noise(3, 8, 9)],
            r"input has the shape \[3, 8, 9\], but the program was compiled for \[batch, 3, 8, 9\]",
        ),
        (lambda: [torch.ones(())], r"input has the shape \[\], but"),
        (lambda: [noise(0, 3, 8, 9)], "input has a batch of 0; give at least one sample"),
        (
            lambda: [noise(*SHAPE).double()],
            "input is of torch.float64, but the program was compiled for torch.float32; convert it",
        ),
        (lambda: [noise(*SHAPE).bfloat16()], "input is of torch.bfloat16, but"),
        (lambda: [noise(*SHAPE).to(torch.complex64)], "input is of torch.complex64, but"),
        (lambda: [torch.ones(SHAPE, dtype=torch.int64)], "input is of torch.int64, but"),
        (
            lambda: [torch.empty(SHAPE, device="meta")],
            r"input is on meta, but programs run on the CPU; give input.cpu\(\)",
        ),
        (lambda: [noise(*SHAPE).numpy()], "input is of type ndarray, but must be a tensor"),
        (lambda: [None], "input is of type NoneType, but must be a tensor"),
        (
            lambda: [noise(*SHAPE)] * 2,
            "the program was compiled for the arguments input, but was called with argument 0, argument 1; "
            "give the same ones as in the example",
        ),
        (list, "compiled for the arguments input, but was called with nothing"),
        (
            lambda: [noise(*SHAPE).to_sparse()],
            r"input is sparse_coo, but must be dense; give input.to_dense\(\)",
        ),
        (
            lambda: [FakeTensorMode().from_tensor(noise(*SHAPE))],
            "input is a FakeTensor without memory of its own; give a plain tensor",
        ),
        (lambda: [TwoTensor(noise(*SHAPE), noise(*SHAPE))], "input is a TwoTensor without memory"),
        (lambda: [freed_memory()], "input is a Tensor without memory"),
    ],
)
def test_wrong_inputs(pair, inputs, text):
    network, program = pair
    if program.fallbacks:
        text = text.replace(r"\[batch, ", r"\[2, ").replace(
            "has a batch of 0; give at least one sample", "has the shape"
        )
    with pytest.raises(RuntimeProgramError, match=text):
        program(*inputs())
    close(program(noise(*SHAPE)), network(noise(*SHAPE)).detach())


def test_a_fixed_batch_is_said():
    with pytest.raises(
        RuntimeProgramError, match=r"\[3, 3, 8, 9\], but the program was compiled for \[2, 3, 8, 9\]"
    ):
        compiled(mixed())(noise(3, 3, 8, 9))


def test_integers_have_rows_in_the_smallest_table():
    tables = [
        Embedding("ids", "one", np.zeros((9, 2), np.float32)),
        Embedding("ids", "other", np.zeros((4, 2), np.float32)),
    ]
    rows = table_rows(tables)
    assert rows == {"ids": 4}
    check_indices({"ids": torch.tensor([[0, 3]]), "x": torch.zeros(2)}, rows)
    for wrong in (4, -1):
        with pytest.raises(RuntimeProgramError) as caught:
            check_indices({"ids": torch.tensor([[0, wrong]], dtype=torch.int32)}, rows)
        expected = f"ids has {wrong}, but its table has 4 rows; give integers from 0 to 3"
        assert str(caught.value) == expected
