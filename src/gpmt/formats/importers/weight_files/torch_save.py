"""Files of torch.save, in its present and its older format; their tensors may be torch.sparse matrices."""

from __future__ import annotations

from dataclasses import replace

import torch

from gpmt.formats.checkpoint import Checkpoint, find_weights
from gpmt.formats.importers.source import Source
from gpmt.formats.torch_sparse import from_csr

NAME = "torch.save"


def recognises(source: Source) -> bool:
    """Tell by the first bytes: those of a zip file, or of the older format's first pickle."""
    return source.is_torch_file


def read(source: Source) -> Checkpoint:
    """Find the weights in what the file holds, and make sparse matrices (`gpmt export csr`) dense."""
    checkpoint = find_weights(source.path, source.content)
    if any(tensor.layout != torch.strided for tensor in checkpoint.state_dict.values()):
        return replace(checkpoint, state_dict=from_csr(checkpoint.state_dict), original={})
    return checkpoint
