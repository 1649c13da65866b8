"""Weights of several types, the formats of torch.save, a hostile pickle, and what reading them back must give."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gpmt.formats.checkpoint import Checkpoint
from gpmt.formats.importers.source import Source

FIXTURES = Path(__file__).parent / "fixtures"
"""Files that other tools wrote."""

WRITERS = {
    "zip": lambda obj, path: torch.save(obj, path),
    "legacy": lambda obj, path: torch.save(obj, path, _use_new_zipfile_serialization=False),
}


class Attack:
    """An object whose pickle makes a file when it is run."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.marker}",)


def weights() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "conv.weight": torch.randn(4, 3, 3, 3, generator=generator),
        "bn.running_var": torch.ones(4, dtype=torch.float64),
        "bn.num_batches_tracked": torch.tensor(7),
        "fc.weight": torch.randn(2, 4, generator=generator).to(torch.bfloat16),
    }


def pruned_weights() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    conv = torch.randn(4, 3, 3, 3, generator=generator)
    return {  # the product has -0.0 where it prunes negative weights
        "conv.weight": conv * (torch.rand(conv.shape, generator=generator) < 0.2),
        "conv.bias": torch.ones(4),
        "norm.num_batches_tracked": torch.tensor(7),
        "fc.weight": torch.tensor([[0.0, 2.0, 0.0], [0.0, 0.0, -0.0], [1.0, 0.0, -3.0]]),
    }


def source(path: Path, weights: Mapping[str, Tensor] | None = None) -> Source:
    """A file as importers get it, with the weights that masks alone belong to."""
    made = Source(path)
    made.weights = weights or {}
    return made


def source_of(checkpoint: Checkpoint) -> Source:
    """A source whose stored weights are those of a checkpoint."""
    made = Source(checkpoint.path)
    made.checkpoint = checkpoint
    return made


def bits(tensor: Tensor) -> Tensor:
    """The bytes of a tensor [bytes], by which 0.0 is not -0.0, and NaN is itself."""
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)


def assert_same(actual: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Names in the same order, with the same types, shapes and bits."""
    assert list(actual) == list(expected)
    for name, tensor in expected.items():
        assert (actual[name].dtype, actual[name].shape) == (tensor.dtype, tensor.shape), name
        assert torch.equal(bits(actual[name]), bits(tensor)), name
