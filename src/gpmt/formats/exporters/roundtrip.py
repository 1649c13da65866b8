"""Checks of a written file against the network: the same weights, and the same outputs."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf, isnan
from pathlib import Path

import torch
from torch import Tensor

from gpmt.errors import CheckpointError
from gpmt.formats.bits import same_bits
from gpmt.formats.exporters.exported_network import ExportedNetwork
from gpmt.torch_private import tree_leaves

SIZES = (1, 3)
"""Batch sizes that a file is checked with."""

TOLERANCE = 1e-5
"""Largest difference of an output that counts as rounding, as a fraction of its largest magnitude."""


@dataclass(frozen=True)
class Report:
    """What an exporter wrote.

    Attributes:
        path, bytes: the file and its size.
        tensors: (weights, zeros) of the prunable tensors in the file, by name.
        unused: prunable tensors that no output depends on, and that the format therefore leaves out.
        errors: batch size -> largest difference from the network's outputs, as a fraction of the output's largest
            magnitude; empty where that was not checked.
    """

    path: Path
    bytes: int
    tensors: dict[str, tuple[int, int]]
    unused: tuple[str, ...]
    errors: dict[int, float]

    @property
    def weights(self) -> int:
        """Number of prunable weights in the file."""
        return sum(weights for weights, _ in self.tensors.values())

    @property
    def zeros(self) -> int:
        """Number of them that are zero."""
        return sum(zeros for _, zeros in self.tensors.values())


def check_weights(
    network: ExportedNetwork, stored: Mapping[str, Tensor], path: str | os.PathLike[str]
) -> dict[str, tuple[int, int]]:
    """Return (weights, zeros) of every prunable tensor that `stored` holds, by name.

    A tied tensor may be stored under any of its names. Left out are tensors that no output depends on. Raises
    `CheckpointError`, naming the first, where a tensor is missing or is not the network's.
    """
    unused, counts = network.unused(), {}
    for name, tensor in network.scope.tensors.items():
        names = (name, *network.scope.aliases.get(name, ()))
        found = next((stored[n] for n in names if n in stored), None)
        if found is None and unused.issuperset(names):
            continue
        if found is None:
            raise CheckpointError(
                f"{path} would not hold {name}, which is in the network; nothing was written"
            )
        here, there = zeros(tensor), zeros(found)
        if found.shape != tensor.shape or here != there:
            raise CheckpointError(
                f"{path} would hold {name} with {there:,} zeros and shape {list(found.shape)}, but the network has "
                f"{here:,} and {list(tensor.shape)}; nothing was written"
            )
        if not same_bits(found, tensor):
            raise CheckpointError(
                f"{path} would hold other values of {name} than the network; nothing was written"
            )
        counts[name] = (tensor.numel(), here)
    return counts


def check_outputs(
    network: ExportedNetwork,
    outputs_of: Callable[[int], Sequence[Tensor]],
    path: str | os.PathLike[str],
    *,
    reader: str,
    tolerance: float = TOLERANCE,
) -> dict[int, float]:
    """Compare the outputs of the file, `outputs_of(size)` for `network.inputs(size)`, with those of the network.

    Returns batch size -> the largest difference, as a fraction of the output's largest magnitude. Raises
    `CheckpointError` where it is above the tolerance, or above 16 units of the precision where that is more, as in
    half precision.
    """
    errors = {}
    for size in SIZES:
        expected, actual = tensors(network.outputs(size)), outputs_of(size)
        if [e.shape for e in expected] != [a.shape for a in actual]:
            raise CheckpointError(
                f"{path} gives outputs of shapes {_shapes(actual)} in {reader}, but the network "
                f"{_shapes(expected)}, for a batch of {size}; nothing was written"
            )
        pairs = list(zip(expected, actual, strict=True))
        for e, a in pairs:
            allowed = max(tolerance, 16 * torch.finfo(e.dtype).eps) if e.is_floating_point() else tolerance
            if (error := _error(e, a)) > allowed:
                raise CheckpointError(
                    f"{path} gives other outputs in {reader} than the network, by {error:.1e} of the largest "
                    f"({allowed:.0e} is allowed), for a batch of {size}; nothing was written, raise the tolerance if "
                    "that will do"
                )
        errors[size] = max((_error(e, a) for e, a in pairs), default=0.0)
    return errors


def tensors(outputs: object) -> list[Tensor]:
    """Return the tensors of what a network returned, in the order in which torch.export lists them."""
    return [leaf for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor)]


def zeros(tensor: Tensor) -> int:
    """Return the number of weights that are zero, of either sign."""
    return tensor.numel() - int(tensor.detach().count_nonzero())


def _error(expected: Tensor, actual: Tensor) -> float:
    wide = torch.promote_types(expected.dtype, torch.float64)
    a, e = actual.cpu().to(wide), expected.cpu().to(wide)
    same = (a == e) | (a.isnan() & e.isnan())
    if same.all():
        return 0.0
    largest = float((a - e)[~same].abs().max())
    scale = float(e[e.isfinite()].abs().max()) if e.isfinite().any() else 0.0
    return inf if isnan(largest) else largest / scale if scale else largest


def _shapes(outputs: Sequence[Tensor]) -> str:
    return ", ".join(str(list(output.shape)) for output in outputs)
