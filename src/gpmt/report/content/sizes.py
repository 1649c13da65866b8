"""Bytes of a network's weights: as they are, compressed by gzip, and as a sparse file."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from gpmt.core.memory import identity
from gpmt.errors import GpmtError, first_line
from gpmt.formats.sparse.writer import save_sparse
from gpmt.report.content.subject import Sizes

LEVEL = 6
WHOLE = 1 << 25
"""Bytes that are compressed in full; of more, pieces that lie evenly among them and have as many."""
MOST_TENSORS = 2000
"""Tensors of which a sparse file is written; of more it takes seconds."""
_PIECE = 1 << 18
_GZIP = 31  # zlib's number for the container of gzip with the largest window


def sizes_of(tensors: Mapping[str, Tensor], path: Path) -> tuple[Sizes, list[str]]:
    """Return the sizes of a state_dict, and a sentence for each that is not measured in full.

    Tied tensors count once. The sparse file is written to a temporary folder.

    Args:
        tensors: on the CPU.
        path: the file that they are from; a sparse file is not written anew.
    """
    single = list({identity(tensor): tensor for tensor in tensors.values()}.values())
    dense = sum(tensor.numel() * tensor.element_size() for tensor in single)
    sparse, missing = _sparse_bytes(tensors, path)
    step = max(1, -(-dense // WHOLE))
    seen, packed = _gzip_bytes(single, step)
    if step > 1:
        missing.append(
            f"gzip size in full: it is estimated from {seen:,} of {dense:,} bytes; gzip -{LEVEL} -c {path} | wc -c "
            "measures that of the file"
        )
        packed = round(packed * dense / seen)
    return Sizes(dense, packed, sparse), missing


def _sparse_bytes(tensors: Mapping[str, Tensor], path: Path) -> tuple[int | None, list[str]]:
    if path.name.endswith(".sparse.safetensors") and path.is_file():
        return path.stat().st_size, []
    reason = f"of {len(tensors):,} tensors it is not written here"
    if len(tensors) <= MOST_TENSORS:
        try:
            with TemporaryDirectory(prefix="gpmt-report-") as folder:
                return save_sparse(tensors, Path(folder) / "size.sparse.safetensors").bytes, []
        except (GpmtError, OSError) as error:
            reason = first_line(error)
    return None, [f"sparse size: {reason}; gpmt convert {path} OUT.sparse.safetensors tells it"]


def _gzip_bytes(tensors: Sequence[Tensor], step: int) -> tuple[int, int]:
    """Return how many bytes every `step`-th piece has, and how many gzip makes of them."""
    packer = zlib.compressobj(LEVEL, zlib.DEFLATED, _GZIP)
    seen = size = 0
    for number, piece in enumerate(piece for tensor in tensors for piece in _pieces(tensor)):
        if number % step == 0:
            seen += piece.nbytes
            size += len(packer.compress(piece))
    return seen, size + len(packer.flush())


def _pieces(tensor: Tensor) -> Iterator[memoryview]:
    """Yield the bytes of a tensor in flat order."""
    flat = tensor.detach().resolve_conj().resolve_neg().contiguous().reshape(-1)
    for piece in torch.split(flat.view(torch.uint8), _PIECE):
        yield piece.numpy().data
