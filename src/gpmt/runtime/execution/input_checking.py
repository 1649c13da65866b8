"""Checks the inputs of a call against those that a program was compiled for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from gpmt.errors import RuntimeProgramError
from gpmt.runtime.ir.operator import Operator
from gpmt.runtime.ir.operators import Embedding
from gpmt.runtime.ir.values import Value
from gpmt.torch_private import FakeTensor, is_traceable_wrapper_subclass


def check_inputs(inputs: Mapping[str, object], expected: Mapping[str, Value], *, dynamic_batch: bool) -> int:
    """Check the inputs of a call; return how many samples they have, or 0 where the batch is fixed.

    Args:
        inputs: of the call, by name.
        expected: the graph's values of the same names.
        dynamic_batch: whether the first dimension may differ from that of the example.

    Raises:
        RuntimeProgramError: an input is not a dense tensor on the CPU, or has another shape or dtype than expected;
            or inputs have different batches, or a batch of 0.
    """
    samples = None
    for name, tensor in inputs.items():
        value = expected[name]
        _check_tensor(name, tensor, value.dtype)
        assert isinstance(tensor, Tensor)
        first = 1 if dynamic_batch else 0
        if tensor.shape[first:] != value.shape[first:] or tensor.ndim != len(value.shape):
            shape = list(value.shape)
            described = f"[batch, {', '.join(map(str, shape[1:]))}]" if dynamic_batch else str(shape)
            raise RuntimeProgramError(
                f"{name} has the shape {list(tensor.shape)}, but the program was compiled for {described}; "
                "compile another one for this shape"
            )
        if not dynamic_batch:
            continue
        batch = tensor.shape[0]
        if batch == 0:
            raise RuntimeProgramError(f"{name} has a batch of 0; give at least one sample")
        if samples not in (None, batch):
            raise RuntimeProgramError(
                f"{name} has a batch of {batch}, but another input one of {samples}; give batches of one size"
            )
        samples = batch
    return samples or 0


def table_rows(operators: Iterable[Operator]) -> dict[str, int]:
    """Return how many rows the (smallest) tables have that inputs are looked up in, by the inputs' names."""
    rows: dict[str, int] = {}
    for operator in operators:
        if isinstance(operator, Embedding):
            rows[operator.input] = min(len(operator.weight), rows.get(operator.input, len(operator.weight)))
    return rows


def check_indices(inputs: Mapping[str, Tensor], rows: Mapping[str, int]) -> None:
    """Check that inputs which are looked up in tables have rows there.

    Raises:
        RuntimeProgramError: an integer is negative, or too large.
    """
    for name, count in rows.items():
        low, high = (int(bound) for bound in inputs[name].aminmax())
        if low < 0 or high >= count:
            wrong = low if low < 0 else high
            raise RuntimeProgramError(
                f"{name} has {wrong}, but its table has {count:,} rows; give integers from 0 to {count - 1:,}"
            )


def _check_tensor(name: str, tensor: object, dtype: torch.dtype) -> None:
    if not isinstance(tensor, Tensor):
        raise RuntimeProgramError(f"{name} is of type {type(tensor).__name__}, but must be a tensor")
    if tensor.device.type != "cpu":
        raise RuntimeProgramError(
            f"{name} is on {tensor.device}, but programs run on the CPU; give {name}.cpu()"
        )
    if tensor.layout != torch.strided:
        kind = str(tensor.layout).removeprefix("torch.")
        raise RuntimeProgramError(f"{name} is {kind}, but must be dense; give {name}.to_dense()")
    if not _has_memory(tensor):
        raise RuntimeProgramError(
            f"{name} is a {type(tensor).__name__} without memory of its own; give a plain tensor"
        )
    if tensor.dtype != dtype:
        raise RuntimeProgramError(
            f"{name} is of {tensor.dtype}, but the program was compiled for {dtype}; convert it"
        )


def _has_memory(tensor: Tensor) -> bool:
    """Return whether kernels can read a tensor's values at its address."""
    wrapper: bool = type(tensor) is not Tensor and is_traceable_wrapper_subclass(tensor)
    if wrapper or isinstance(tensor, FakeTensor):
        return False
    return tensor.data_ptr() != 0 or tensor.numel() == 0
