import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from gpmt.errors import DataError
from gpmt.training.data import datasets


def write_idx(path: Path, array: np.ndarray) -> None:
    content = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


@pytest.fixture
def fashion(tmp_path: Path) -> Path:
    for part, suffix, count in (("train", ".gz", 20), ("t10k", "", 10)):
        images = np.arange(count * 4, dtype=np.uint8).reshape(count, 2, 2)
        write_idx(tmp_path / f"{part}-images-idx3-ubyte{suffix}", images)
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte{suffix}", np.arange(count, dtype=np.uint8) % 10)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "mean", "first"), [("fashion-mnist", 0.2860, "t-shirt/top"), ("mnist", 0.1307, "0")]
)
def test_mnist_and_fashion_mnist_read_idx_files_plain_or_compressed(fashion: Path, name, mean, first):
    source = datasets.load(name, root=fashion)
    assert (source.mean, source.classes[0]) == ((mean,), first)
    assert (source.train_size, source.test_size, source.input_shape) == (20, 10, (1, 2, 2))
    assert source.train.samples[1].flatten().tolist() == [4, 5, 6, 7]
    assert source.test.labels.tolist() == list(range(10))


def test_fashion_mnist_says_which_file_is_missing(fashion: Path):
    (fashion / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(
        DataError, match=r"t10k-labels-idx1-ubyte \(or t10k-labels-idx1-ubyte.gz\) is missing"
    ):
        datasets.load("fashion-mnist", root=fashion)


@pytest.mark.parametrize("labels", [np.zeros(9), np.full(10, 10)])
def test_fashion_mnist_needs_a_good_label_for_each_image(fashion: Path, labels: np.ndarray):
    write_idx(fashion / "t10k-labels-idx1-ubyte", labels.astype(np.uint8))
    with pytest.raises(DataError, match="there must be a label from 0 to 9 for each image"):
        datasets.load("fashion-mnist", root=fashion)
