import gzip
from pathlib import Path

import numpy as np
import pytest

from gpmt.errors import DataError
from gpmt.training.data.datasets.idx import read_idx

# Two images of 2×3 pixels, byte for byte.
GOLDEN = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 3, *range(12)])


@pytest.mark.parametrize("compressed", [False, True])
def test_reads_the_format_byte_for_byte(tmp_path: Path, compressed: bool):
    path = tmp_path / ("images.gz" if compressed else "images")
    path.write_bytes(gzip.compress(GOLDEN) if compressed else GOLDEN)
    assert np.array_equal(read_idx(path, dimensions=3), np.arange(12, dtype=np.uint8).reshape(2, 2, 3))


@pytest.mark.parametrize("length", range(len(GOLDEN)))
def test_a_file_cut_short_anywhere_is_refused(tmp_path: Path, length: int):
    path = tmp_path / "images"
    path.write_bytes(GOLDEN[:length])
    sentence = "an IDX file of unsigned bytes in 3 dimensions" if length < 16 else "fetch the file anew"
    with pytest.raises(DataError, match=sentence):
        read_idx(path, dimensions=3)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (GOLDEN + b"\0", r"has 29 bytes, but its header asks for 28; fetch the file anew"),
        (b"\0\0\x08\x01" + GOLDEN[4:], r"starts with bytes 00 00 08 01, but .* starts with 00 00 08 03"),
        (b"\0\0\x0d\x03" + GOLDEN[4:], r"starts with bytes 00 00 0d 03"),
        (b"<html>" * 10, r"starts with bytes 3c 68 74 6d"),
        (b"\0\0\x08\x03" + b"\xff" * 12, r"asks for 79,228,162,458,924,105,385,300,197,391"),
    ],
)
def test_a_foreign_file_is_refused(tmp_path: Path, content: bytes, sentence: str):
    path = tmp_path / "images"
    path.write_bytes(content)
    with pytest.raises(DataError, match=sentence):
        read_idx(path, dimensions=3)


@pytest.mark.parametrize(
    "content", [gzip.compress(GOLDEN)[:-3], b"not gzip", b""], ids=["cut", "foreign", "empty"]
)
def test_a_damaged_gzip_file_is_refused(tmp_path: Path, content: bytes):
    path = tmp_path / "images.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"images\.gz"):
        read_idx(path, dimensions=3)
