"""Programs of torch.export (``.pt2``): the network with its graph, for PyTorch without the network's code."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram

from gpmt.atomic import atomic_path, check_output
from gpmt.formats.exporters.exported_network import captured
from gpmt.formats.exporters.roundtrip import TOLERANCE, Report, check_outputs, check_weights, tensors
from gpmt.model_tools import Example


def export_program(
    module: nn.Module, path: str | os.PathLike[str], example: Example, *, tolerance: float = TOLERANCE
) -> Report:
    """Write a network as a program of torch.export for any batch size, atomically, and prove what was written.

    The network is exported in evaluation mode, and is afterwards as it was. The file is read back: each prunable
    tensor must be there bit for bit, and for batches of 1 and 3 the outputs must be the network's, within `tolerance`
    (a fraction of an output's largest magnitude). The example, which may be all that `export_onnx` takes, is not
    written: zeros of its shapes take its place.

    Raises:
        CheckpointError: an example that does not fit, a network that torch.export cannot capture, a file that cannot
            be written or that fails a check.
        ScopeError: the network has no prunable tensor, or a reparametrised one.
    """
    check_output(path)
    with captured(module, example) as capture, atomic_path(path) as temporary:
        _forget(capture.program)
        with temporary.open("w+b") as file:  # given a path, torch wants a certain suffix
            torch.export.save(capture.program, file)
            file.seek(0)
            program = torch.export.load(file)
        counts = check_weights(capture, program.state_dict, path)
        call = program.module()

        def run(size: int) -> Any:
            positional, named = capture.inputs(size)
            with torch.no_grad():
                return tensors(call(*positional, **named))

        errors = check_outputs(capture, run, path, reader="torch.export", tolerance=tolerance)
        return Report(
            path=Path(path),
            bytes=temporary.stat().st_size,
            tensors=counts,
            unused=tuple(name for name in capture.scope.tensors if name not in counts),
            errors=errors,
        )


def _forget(program: ExportedProgram) -> None:
    """Take out what is nobody's business: the values of the example, and where the source code lay."""
    if program.example_inputs is not None:
        positional, named = program.example_inputs
        program.example_inputs = (
            tuple(torch.zeros_like(tensor) for tensor in positional),
            {name: torch.zeros_like(tensor) for name, tensor in named.items()},
        )
    for module in program.graph_module.modules():
        for node in getattr(getattr(module, "graph", None), "nodes", ()):
            node.meta.pop("stack_trace", None)
