"""From a path to a network and the inputs that it is compiled for."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gpmt.errors import RuntimeProgramError
from gpmt.formats.importers.source import Source
from gpmt.formats.importers.weight_files.onnx import recognises
from gpmt.formats.short_repr import short_repr
from gpmt.runtime.onnx_frontend.model_file import Input, read_model_file, sizes_text, warn_of_conversion
from gpmt.runtime.onnx_frontend.network import OnnxNetwork

Shapes = Sequence[int] | Sequence[Sequence[int]] | Mapping[str, Sequence[int]]
"""The shape of one input, of several in their order, or of each by its name."""


def is_onnx(path: Path) -> bool:
    """Tell whether a file is an ONNX file, by its name or by what it holds."""
    return path.is_file() and (path.suffix == ".onnx" or recognises(Source(path)))


def open_onnx(path: str | os.PathLike[str]) -> OnnxNetwork:
    """Read an ONNX file as a network of PyTorch; data in other files of its folder are mapped, not copied.

    Raises:
        CheckpointError: the file cannot be read, is damaged, or names data outside of its folder.
        RuntimeProgramError: onnx is missing, or the file has operators that are not supported; all are named.
    """
    file = read_model_file(Path(path))
    network = OnnxNetwork(file).eval()
    warn_of_conversion(file)
    return network


def onnx_example(network: OnnxNetwork, given: object = None, *, batch: int = 1) -> tuple[Tensor, ...]:
    """Return inputs of a call in the order of the file.

    Args:
        network: of `open_onnx`.
        given: a tensor or a shape, several of them in the order of the file, or a mapping by the names of its inputs;
            None takes the shapes from the file.
        batch: for a first dimension that the file leaves open, where shapes are taken from the file.

    Raises:
        RuntimeProgramError: shapes that the file leaves open, or inputs that do not fit it.
    """
    names = list(network.inputs)
    if given is None:
        return tuple(_from_file(network, name, spec, batch) for name, spec in network.inputs.items())
    if isinstance(given, Mapping):
        parts = dict(given)
        if parts.keys() != {*names}:
            raise RuntimeProgramError(
                f"{network.path} has the inputs {', '.join(names)}, but the example has "
                f"{', '.join(map(str, parts)) or 'none'}; give one for each"
            )
        listed = [parts[name] for name in names]
    else:
        one = isinstance(given, Tensor) or _is_shape(given)
        listed = [given] if one else list(given) if isinstance(given, Sequence) else []
        if len(listed) != len(names):
            raise RuntimeProgramError(
                f"{network.path} has {len(names)} inputs ({', '.join(names)}), but the example has {len(listed)}; "
                "give a tensor or a shape for each"
            )
    return tuple(_given(network, name, part) for name, part in zip(names, listed, strict=True))


def _is_shape(value: object) -> bool:
    return isinstance(value, Sequence) and bool(value) and all(type(part) is int for part in value)


def _given(network: OnnxNetwork, name: str, part: Any) -> Tensor:
    if isinstance(part, Tensor):
        return part
    if not _is_shape(part) or min(part) < 1:
        raise RuntimeProgramError(
            f"the example for {short_repr(name)} of {network.path} is {short_repr(part)}, but must be a tensor or a "
            "shape such as (1, 3, 224, 224)"
        )
    return torch.zeros(tuple(part), dtype=network.inputs[name].dtype, device="cpu")


def _from_file(network: OnnxNetwork, name: str, spec: Input, batch: int) -> Tensor:
    shape = spec.shape
    if shape is None or not all(isinstance(size, int) for size in shape[1:]):
        said = f"of the shape {sizes_text(shape)}" if shape is not None else "of no shape"
        raise RuntimeProgramError(
            f"{network.path} has the input {short_repr(name)} {said}, which is open in more than the batch; give a "
            "shape for each input, such as (1, 3, 224, 224)"
        )
    sizes = [batch if not isinstance(size, int) else size for size in shape]
    return torch.zeros(tuple(sizes), dtype=spec.dtype, device="cpu")
