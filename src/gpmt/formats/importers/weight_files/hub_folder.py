"""Folders as Hugging Face libraries write them, or the index file of one."""

from __future__ import annotations

from gpmt.formats import hub_folder
from gpmt.formats.checkpoint import Checkpoint
from gpmt.formats.importers.source import Source

NAME = hub_folder.NAME


def recognises(source: Source) -> bool:
    """Tell by the path: a folder, or the name of an index file."""
    return source.is_hub_folder


def read(source: Source) -> Checkpoint:
    """Read all weights of the folder, see `gpmt.formats.hub_folder.read_hub_folder`."""
    return hub_folder.read_hub_folder(source.path)
