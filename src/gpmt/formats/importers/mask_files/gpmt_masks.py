"""Masks that gpmt wrote (`gpmt.Masks.save`)."""

from __future__ import annotations

from gpmt.formats.importers.source import Source
from gpmt.formats.masks.mask_file import FORMAT
from gpmt.masks import Masks

NAME = "masks of gpmt"


def recognises(source: Source) -> bool:
    """Tell by the format that the metadata of a safetensors file name."""
    return source.metadata.get("format") == FORMAT


def read(source: Source) -> Masks:
    """Read the masks, and check that they belong to the weights."""
    return Masks.load(source.path, of=source.weights)
