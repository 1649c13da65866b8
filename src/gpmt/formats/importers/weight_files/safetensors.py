"""Files of safetensors, and the sparse files of gpmt, which are safetensors containers too."""

from __future__ import annotations

from gpmt.formats.checkpoint import Checkpoint, load_checkpoint
from gpmt.formats.importers.source import Source

NAME = "safetensors"


def recognises(source: Source) -> bool:
    """Tell by the first bytes: the length of a JSON header, and its opening brace."""
    return source.format == "safetensors"


def read(source: Source) -> Checkpoint:
    """Read the tensors; the metadata tell whether they are coded."""
    return load_checkpoint(source.path, skip_bad=source.skip_bad)
