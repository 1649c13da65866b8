import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import CIFAR10, CIFAR100

from gpmt.errors import DataError
from gpmt.training.data import datasets


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
        assert np.array_equal(source.train.samples[9].numpy(), np.array(image))


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
    assert np.array_equal(source.test.samples.numpy(), expected)

    (folder / "data_batch_3").write_bytes(b"cut")
    with pytest.raises(
        DataError, match=r"cifar-10-batches-py is incomplete .* unpack cifar-10-python.tar.gz"
    ):
        datasets.load("cifar10", root=tmp_path)


def test_cifar100_reads_the_published_python_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    pixels = np.arange(2 * 3072, dtype=np.int64).astype(np.uint8).reshape(2, 3072)
    classes = [f"class {number}" for number in range(100)]

    def write(name: str, content: dict) -> list[str]:
        (folder / name).write_bytes(pickle.dumps(content))
        return [name, hashlib.md5((folder / name).read_bytes()).hexdigest()]

    monkeypatch.setattr(CIFAR100, "train_list", [write("train", {"data": pixels, "fine_labels": [99, 3]})])
    monkeypatch.setattr(CIFAR100, "test_list", [write("test", {"data": pixels[:1], "fine_labels": [7]})])
    filename, md5 = write("meta", {"fine_label_names": classes})
    monkeypatch.setattr(CIFAR100, "meta", {"filename": filename, "key": "fine_label_names", "md5": md5})

    source = datasets.load("cifar100", root=tmp_path)
    assert source.classes == tuple(classes)
    assert source.train.labels.tolist() == [99, 3]
    assert source.mean == (0.5071, 0.4865, 0.4409)
    assert np.array_equal(source.test.samples[0].numpy(), pixels[0].reshape(3, 32, 32).transpose(1, 2, 0))

    (folder / "train").write_bytes(b"cut")
    with pytest.raises(DataError, match=r"cifar-100-python is incomplete .* unpack cifar-100-python.tar.gz"):
        datasets.load("cifar100", root=tmp_path)


def test_cifar100_reads_a_tree_of_images(image_tree: Path):
    source = datasets.load("cifar100", root=image_tree, crop_padding=1, flip=True)
    assert (source.train_size, source.std, source.crop_padding, source.flip) == (
        36,
        (0.2673, 0.2564, 0.2762),
        1,
        True,
    )


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
