"""Files of safetensors whose bytes depend on their content alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

from gpmt.errors import CheckpointError

_LENGTH_BYTES = 8


def save_safetensors(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """Write a file as safetensors' own writer does, its metadata in the order of their keys; not atomically.

    That writer takes the metadata in an order that changes from one call to the next. Raises `CheckpointError` for a
    name or metadata that are not valid Unicode, which a file of torch.save may have.
    """
    from safetensors.torch import save_file

    for text in (*tensors, *metadata, *metadata.values()):
        try:
            text.encode()
        except UnicodeEncodeError:
            raise CheckpointError(
                f"{ascii(text)[:100]} is not valid Unicode, as names and metadata of safetensors must be; rename it"
            ) from None
    save_file(dict(tensors), path, metadata=dict(metadata))
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        written = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        if len(written) <= length:  # spaces may follow
            file.seek(_LENGTH_BYTES)
            file.write(written.ljust(length))
