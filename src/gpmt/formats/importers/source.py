"""A file or folder to import, each part of which is read when it is first asked for, and kept."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from gpmt.formats.checkpoint import Checkpoint
from gpmt.formats.file_format import FileFormat, format_of, is_hub_folder, read_head, weights_format
from gpmt.formats.importers import registry
from gpmt.formats.run_result import weights_file
from gpmt.formats.torch_file import read_torch


class Source:
    """What importers recognise and read.

    Args:
        path: a file or folder; that of a run stands for its model.pt.
        skip_bad: leave out the damaged tensors of a sparse file.
    """

    def __init__(self, path: Path, *, skip_bad: bool = False) -> None:
        self.path = weights_file(path)
        self.skip_bad = skip_bad
        self.weights: Mapping[str, Tensor] = {}
        """The state_dict that masks alone belong to; it is set before they are read."""

    @property
    def is_hub_folder(self) -> bool:
        """Whether it is a folder, or the index file of one."""
        return is_hub_folder(self.path)

    @cached_property
    def head(self) -> bytes:
        """The first bytes of a file, at most 512. Raises `CheckpointError` where it cannot be read."""
        return read_head(self.path)

    @cached_property
    def format(self) -> FileFormat | None:
        """The format by `head`; None for a folder, and for formats without a known beginning."""
        return None if self.is_hub_folder else format_of(self.head)

    @cached_property
    def metadata(self) -> Mapping[str, str]:
        """The strings in the header of a safetensors file; none of a file that is damaged or of another format."""
        import safetensors

        if self.format != "safetensors":
            return {}
        try:
            with safetensors.safe_open(self.path, framework="numpy") as file:
                return dict(file.metadata() or {})
        except (safetensors.SafetensorError, OSError, ValueError):
            return {}

    @property
    def is_torch_file(self) -> bool:
        """Whether torch.save wrote it, in either of its formats."""
        return self.format in ("zip", "legacy")

    @cached_property
    def content(self) -> Any:
        """What a file of torch.save holds. Raises `CheckpointError` where it is damaged or needs code."""
        return read_torch(self.path, registry.pickle_globals())

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The weights as they are stored. Raises `CheckpointError` where there are none that can be read."""
        importer = registry.WEIGHT_FILES.recognising(self)
        if importer is None:
            raise AssertionError(f"no importer reads {weights_format(self.path)}")
        return importer.read(self)
