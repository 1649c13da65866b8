import gzip
import hashlib
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import CIFAR10

from gpmt.errors import DataError
from gpmt.training import datasets


def test_digits_have_a_fixed_split_with_every_class_in_the_same_shares():
    source = datasets.load("digits", root=None)
    assert (source.train_size, source.test_size, source.input_shape) == (1442, 355, (1, 8, 8))
    shares = torch.bincount(source.test.labels) / torch.bincount(
        torch.cat([source.train.labels, source.test.labels])
    )
    assert (shares - 0.2).abs().max() < 0.006
    assert source.train.pixels.max() == 255
    # The split must never change: results are compared across versions.
    digest = hashlib.sha256(source.test.pixels.numpy().tobytes()).hexdigest()
    assert digest.startswith("4789a1d86a4f4342")


def test_default_normalisation_gives_zero_mean_and_unit_variance():
    source = datasets.load("digits", root=None)
    pixels = torch.cat([images for images, _ in source.train_batches(100, seed=(0,))])
    assert abs(pixels.mean()) < 0.01
    assert abs(pixels.std() - 1) < 0.01


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


def test_fashion_mnist_reads_idx_files_plain_or_compressed(fashion: Path):
    source = datasets.load("fashion-mnist", root=fashion)
    assert (source.train_size, source.test_size, source.input_shape) == (20, 10, (1, 2, 2))
    assert source.train.pixels[1].flatten().tolist() == [4, 5, 6, 7]
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


def test_cifar10_reads_a_tree_of_images(image_tree: Path):
    seen = []

    def track(items, description, total):
        seen.append((description, total))
        yield from items

    source = datasets.load("cifar10", root=image_tree, track=track)
    assert (source.train_size, source.test_size, source.input_shape) == (36, 24, (3, 12, 12))
    assert source.classes == ("bright", "dark", "even", "odd", "plain", "rough")
    assert source.train.labels.tolist() == [label for label in range(6) for _ in range(6)]
    assert seen == [("reading train images", 36), ("reading test images", 24)]
    with Image.open(image_tree / "train" / "dark" / "03.png") as image:
        assert np.array_equal(source.train.pixels[9].numpy(), np.array(image))


def test_cifar10_reads_the_published_python_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    generator = np.random.default_rng(0)
    pixels = {}

    def write(name: str, content: dict) -> list[str]:
        (folder / name).write_bytes(pickle.dumps(content))
        return [name, hashlib.md5((folder / name).read_bytes()).hexdigest()]

    def batch(name: str, label: int) -> list[str]:
        pixels[name] = generator.integers(0, 256, (2, 3072), dtype=np.uint8)
        return write(name, {"data": pixels[name], "labels": [label, 9]})

    classes = [f"class {number}" for number in range(10)]
    monkeypatch.setattr(CIFAR10, "train_list", [batch(f"data_batch_{n}", n) for n in range(1, 6)])
    monkeypatch.setattr(CIFAR10, "test_list", [batch("test_batch", 0)])
    filename, md5 = write("batches.meta", {"label_names": classes})
    monkeypatch.setattr(CIFAR10, "meta", {"filename": filename, "key": "label_names", "md5": md5})

    source = datasets.load("cifar10", root=tmp_path)
    assert source.classes == tuple(classes)
    assert source.train.labels.tolist() == [1, 9, 2, 9, 3, 9, 4, 9, 5, 9]
    expected = pixels["test_batch"].reshape(2, 3, 32, 32).transpose(0, 2, 3, 1)
    assert np.array_equal(source.test.pixels.numpy(), expected)

    (folder / "data_batch_3").write_bytes(b"cut")
    with pytest.raises(
        DataError, match=r"cifar-10-batches-py is incomplete .* unpack cifar-10-python.tar.gz"
    ):
        datasets.load("cifar10", root=tmp_path)


def test_images_of_different_sizes_are_named(image_tree: Path):
    path = image_tree / "train" / "dark" / "05.png"
    Image.new("RGB", (10, 11)).save(path)
    with pytest.raises(DataError, match=rf"{path} is 10×11, but .*00.png is 12×12; all must have one size"):
        datasets.load("cifar10", root=image_tree)


def test_a_damaged_image_is_named(image_tree: Path):
    path = image_tree / "test" / "bright" / "01.png"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(DataError, match=rf"{path} cannot be read as an image"):
        datasets.load("cifar10", root=image_tree)


def test_train_and_test_need_the_same_classes(image_tree: Path):
    (image_tree / "test" / "dark").rename(image_tree / "test" / "fox")
    with pytest.raises(DataError, match="has class dark in only one of train and test"):
        datasets.load("cifar10", root=image_tree)


@pytest.mark.parametrize(
    ("name", "root", "sentence"),
    [
        (
            "cifar10",
            None,
            r"^data.root is not given; give data.root=FOLDER, where the folder holds either cifar",
        ),
        (
            "cifar10",
            "absent",
            r"^data.root is .*absent, which is not a folder; for cifar10 it must hold either",
        ),
        ("cifar10", ".", r"holds no CIFAR-10 that can be read; it must hold either cifar-10-batches-py"),
        ("fashion-mnist", None, r"^data.root is not given; .* holds train-images-idx3-ubyte, train-labels"),
        ("fashion-mnist", ".", r"train-images-idx3-ubyte.gz\) is missing; fashion-mnist needs"),
        ("digits", ".", r"but digits come with scikit-learn; leave data.root out"),
    ],
)
def test_missing_data_says_which_files_belong_where(tmp_path: Path, name: str, root: str, sentence: str):
    with pytest.raises(DataError, match=sentence):
        datasets.load(name, root=None if root is None else tmp_path / root)


def test_a_split_without_images(image_tree: Path):
    for path in (image_tree / "test").rglob("*.png"):
        path.unlink()
    with pytest.raises(DataError, match=r"test holds no images; it must hold test/<class>/\*.jpg"):
        datasets.load("cifar10", root=image_tree)


def test_one_mean_per_channel():
    with pytest.raises(DataError, match=r"data.mean has 3 numbers, but digits has 1 channels"):
        datasets.load("digits", root=None, mean=(0.5, 0.5, 0.5))
