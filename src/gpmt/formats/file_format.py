"""The format of a file, by its first bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from gpmt.errors import CheckpointError

FileFormat = Literal["zip", "legacy", "safetensors", "numpy"]
"""torch.save's present and older format, safetensors, an array of NumPy."""

RESAVE = (
    "save its weights again where it was made, with torch.save(model.state_dict(), path) or as safetensors"
)
"""The remedy for a file whose weights cannot be read."""

INDEX_SUFFIX = ".index.json"
"""What the names of files end in that list the parts of a network in a Hugging Face folder."""

_HEAD_BYTES = 512
_ZIP = b"PK\x03\x04"
_NUMPY = b"\x93NUMPY"
# The long integer that opens every file of torch.save's older format, as pickle writes it after the protocol.
_LEGACY = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_MAX_SAFETENSORS_HEADER = 2**27


def is_hub_folder(path: Path) -> bool:
    """Tell by the path: a folder, or the index file of one."""
    return path.is_dir() or path.name.endswith(INDEX_SUFFIX)


def read_head(path: Path) -> bytes:
    """Return the first bytes of a file, at most 512.

    Raises `CheckpointError` for a file that is missing or cannot be read, and for a folder.
    """
    try:
        with path.open("rb") as file:
            return file.read(_HEAD_BYTES)
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist; check the path") from None
    except IsADirectoryError:
        raise CheckpointError(f"{path} is a folder; give the checkpoint file inside it") from None
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read: {error.strerror}; check the path and its permissions"
        ) from error


def format_of(head: bytes) -> FileFormat | None:
    """Return the format of a file that begins with `head`, None for any other format."""
    if head.startswith(_ZIP):
        return "zip"
    if head[:1] == b"\x80" and head[2 : 2 + len(_LEGACY)] == _LEGACY:
        return "legacy"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < _MAX_SAFETENSORS_HEADER:
        return "safetensors"
    if head.startswith(_NUMPY):
        return "numpy"
    return None


def weights_format(path: Path) -> Literal["zip", "legacy", "safetensors"]:
    """Return the format of a file that may hold weights. Raises `CheckpointError` for any other file."""
    head = read_head(path)
    found = format_of(head)
    if found is not None and found != "numpy":
        return found
    if not head:
        raise CheckpointError(
            f"{path} is empty; the program that wrote it was probably interrupted, so write it again"
        )
    if found == "numpy":
        raise CheckpointError(
            f"{path} is an array of NumPy, such as the mask files of the published scripts, and no weights; give "
            "the weights they belong to: gpmt convert MASKS OUT --weights FILE, or gpmt.load(path, weights=...)"
        )
    if head[:1] == b"\x80":
        raise CheckpointError(f"{path} is a plain pickle (or cut short), not a file of torch.save; {RESAVE}")
    raise CheckpointError(f"{path} is neither a file of torch.save nor of safetensors; {RESAVE}")
