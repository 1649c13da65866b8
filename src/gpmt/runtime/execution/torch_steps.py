"""Steps on PyTorch: the state of PyTorch that they run in, and what they must return."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor

from gpmt.errors import RuntimeProgramError, first_line
from gpmt.runtime.lowering.steps import TorchStep


@contextmanager
def as_compiled() -> Iterator[None]:
    """Switch gradients and autocast off, whatever the caller has switched on."""
    mixed = torch.is_autocast_enabled("cpu")
    with torch.no_grad(), torch.autocast("cpu", enabled=False) if mixed else nullcontext():
        yield


def run_torch_step(step: TorchStep, values: dict[str, Tensor]) -> None:
    """Run a step, and add its outputs to the values.

    Raises:
        RuntimeProgramError: PyTorch raises an error, or returns other tensors than when the network was compiled.
    """
    try:
        results = step.run(*(values[name] for name in step.inputs))
    except Exception as error:  # PyTorch raises errors of any type
        raise RuntimeProgramError(
            f"the program's step {step.label} on PyTorch {torch.__version__} fails: {first_line(error)}; check the "
            "inputs, or compile the network again"
        ) from error
    for value, tensor in zip(step.outputs, results, strict=True):
        # Kernels read memory, so it must hold what they were compiled for.
        plain = isinstance(tensor, Tensor) and tensor.layout == torch.strided and tensor.device.type == "cpu"
        if not plain or tensor.shape != value.shape or tensor.dtype != value.dtype:
            raise RuntimeProgramError(
                f"the program's step {step.label} on PyTorch {torch.__version__} does not make {value.name} as "
                f"{value.dtype} {list(value.shape)}; compile the network again"
            )
        # A tensor with the negative bit set has the opposite signs in memory.
        values[value.name] = tensor.resolve_neg()
