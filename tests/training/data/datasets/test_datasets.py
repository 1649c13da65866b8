import gzip
import hashlib
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import CIFAR10, CIFAR100

from gpmt.errors import DataError
from gpmt.training.data import datasets


def test_digits_have_a_fixed_split_with_every_class_in_the_same_shares():
    source = datasets.load("digits", root=None)
    assert (source.train_size, source.test_size, source.input_shape) == (1442, 355, (1, 8, 8))
    shares = torch.bincount(source.test.labels) / torch.bincount(
        torch.cat([source.train.labels, source.test.labels])
    )
    assert (shares - 0.2).abs().max() < 0.006
    assert source.train.samples.max() == 255
    # The split must never change: results are compared across versions.
    digest = hashlib.sha256(source.test.samples.numpy().tobytes()).hexdigest()
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
        ("cifar10", ".", r"holds no cifar10 that can be read; it must hold either cifar-10-batches-py"),
        ("fashion-mnist", None, r"^data.root is not given; .* holds train-images-idx3-ubyte, train-labels"),
        ("fashion-mnist", ".", r"train-images-idx3-ubyte.gz\) is missing; fashion-mnist needs"),
        ("mnist", "absent", r"for mnist it must hold train-images-idx3-ubyte"),
        ("cifar100", ".", r"holds no cifar100 .* must hold either cifar-100-python"),
        ("har2", None, r"the folder holds UCI HAR Dataset/ with activity_labels.txt and"),
        ("har6", ".", r"activity_labels.txt is missing; data.root must hold UCI HAR Dataset/"),
        ("imagenet", None, r"holds train/<wnid>/\*.JPEG and val/<wnid>/\*.JPEG, or data/train-\*.parquet"),
        ("imagenet", ".", r"holds no imagenet that can be read; it must hold train/<wnid>"),
        ("imagefolder", ".", r"holds no imagefolder .* train/<class>/\*.jpg and val/<class>"),
        ("hf", ".", r"holds no dataset .* data/train-\*.parquet .* or what DatasetDict.save_to_disk wrote"),
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


def test_an_unknown_name_is_answered_with_those_nearest():
    with pytest.raises(DataError, match=r"data.name is cifar, which is not known; did you mean cifar10"):
        datasets.load("cifar", root=None)


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("digits", "size", 32),
        ("cifar10", "workers", 0),
        ("mnist", "interpolation", "bicubic"),
        ("har2", "flip", True),
        ("har6", "crop_padding", 4),
        ("imagenet", "flip", True),
        ("imagefolder", "tokenizer", Path("x")),
        ("hf", "max_length", 32),
    ],
)
def test_an_option_without_use_is_refused(tmp_path: Path, name: str, option: str, value):
    with pytest.raises(
        DataError, match=rf"^data.{option} is {value}, but {name} has no use for it, only for mean"
    ):
        datasets.load(name, root=tmp_path, **{option: value})


def test_limits_choose_the_same_samples_every_time_from_all_classes():
    sources = [datasets.load("digits", root=None, train_limit=25, test_limit=10) for _ in range(2)]
    first, second = sources
    assert (first.train_size, first.test_size) == (25, 10)
    assert torch.equal(first.train.samples, second.train.samples)
    assert torch.bincount(first.train.labels).sort().values.tolist() == [2] * 5 + [3] * 5
    assert torch.bincount(first.test.labels).tolist() == [1] * 10


@pytest.mark.parametrize("limit", [0, 1443])
def test_a_limit_outside_the_split_is_refused(limit: int):
    with pytest.raises(
        DataError, match=rf"data.train_limit is {limit}, but the train split has 1,442 samples"
    ):
        datasets.load("digits", root=None, train_limit=limit)
