"""The strict reader of IDX files, the format of MNIST."""

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np

from gpmt.errors import DataError


def read_idx(path: Path, *, dimensions: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Return the bytes of an IDX file (plain, or gzip when its name ends in .gz) as an array.

    The file is: two zero bytes, 0x08 for unsigned bytes, the number of dimensions, each size as a
    big-endian 32-bit number, then exactly that many bytes. Anything else raises DataError.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}); fetch the file anew") from error
    header = 4 + 4 * dimensions
    if len(content) < header or content[:4] != bytes([0, 0, 8, dimensions]):
        raise DataError(
            f"{path} starts with bytes {content[:4].hex(' ') or '(none)'}, but an IDX file of unsigned bytes in "
            f"{dimensions} dimension{'s' * (dimensions > 1)} starts with 00 00 08 0{dimensions}; "
            "check that the file is what its name says"
        )
    shape = struct.unpack(f">{dimensions}I", content[4:header])
    expected = header + int(np.prod(shape, dtype=object))
    if len(content) != expected:
        raise DataError(
            f"{path} has {len(content):,} bytes, but its header asks for {expected:,}; fetch the file anew"
        )
    return np.frombuffer(content, dtype=np.uint8, offset=header).reshape(shape)
