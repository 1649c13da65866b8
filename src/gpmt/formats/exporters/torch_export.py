"""Programs of torch.export (``.pt2``): the network with its graph, for PyTorch without the network's code."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram

from gpmt.atomic import atomic_path, check_output
from gpmt.formats.exporters.exported_network import exported
from gpmt.formats.exporters.roundtrip import TOLERANCE, Report, check_outputs, check_weights, tensors
from gpmt.model_tools import Example


def export_program(
    module: nn.Module, path: str | os.PathLike[str], example: Example, *, tolerance: float = TOLERANCE
) -> Report:
    """Write a network as a program of torch.export for any batch size, atomically, and verify the file.

    The network is exported in evaluation mode, and is afterwards as it was. The file is read back: each prunable
    tensor must be there bit for bit, and for batches of 1 and 3 the outputs must be the network's, within `tolerance`
    (a fraction of an output's largest magnitude). The example, which may be all that `export_onnx` takes, is not
    written: zeros of its shapes take its place.

    Raises:
        CheckpointError: an example that does not fit, a network that torch.export cannot export, a file that cannot
            be written or that fails a check.
        ScopeError: the network has no prunable tensor, or a reparametrised one.
    """
    check_output(path)
    with exported(module, example) as network, atomic_path(path) as temporary:
        _remove_private_data(network.program)
        # Given a path, torch wants a certain suffix.
        with temporary.open("w+b") as file, warnings.catch_warnings():
            # Of channels-last weights, which it writes right all the same: they are compared below.
            warnings.filterwarnings("ignore", "No complete tensor found in the group", UserWarning)
            # PyTorch 2.10 warns of its own way to read the file.
            warnings.filterwarnings("ignore", "The given buffer is not writable", UserWarning)
            torch.export.save(network.program, file)
            file.seek(0)
            with torch.device("cpu"):  # it would read into another default device
                program = torch.export.load(file)
        counts = check_weights(network, program.state_dict, path)
        call = program.module()

        def outputs_of(size: int) -> Any:
            positional, named = network.inputs(size)
            with torch.no_grad():
                return tensors(call(*positional, **named))

        errors = check_outputs(network, outputs_of, path, reader="torch.export", tolerance=tolerance)
        return Report(
            path=Path(path),
            bytes=temporary.stat().st_size,
            tensors=counts,
            unused=tuple(name for name in network.scope.tensors if name not in counts),
            errors=errors,
        )


def _remove_private_data(program: ExportedProgram) -> None:
    """Replace the example's values by zeros, and remove the paths of source files."""
    if program.example_inputs is not None:
        positional, named = program.example_inputs
        program.example_inputs = (
            tuple(torch.zeros_like(tensor) for tensor in positional),
            {name: torch.zeros_like(tensor) for name, tensor in named.items()},
        )
    for module in program.graph_module.modules():
        for node in getattr(getattr(module, "graph", None), "nodes", ()):
            node.meta.pop("stack_trace", None)
