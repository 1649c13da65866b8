from pathlib import Path

import pytest
import torch

from gpmt.errors import DataError
from gpmt.training.data import datasets


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
        ("cifar10", ".", r"does not hold cifar10 as gpmt reads it; it must hold either cifar-10-batches-py"),
        ("fashion-mnist", None, r"^data.root is not given; .* holds train-images-idx3-ubyte, train-labels"),
        ("fashion-mnist", ".", r"train-images-idx3-ubyte.gz\) is missing; fashion-mnist needs"),
        ("mnist", "absent", r"for mnist it must hold train-images-idx3-ubyte"),
        ("cifar100", ".", r"does not hold cifar100 .* must hold either cifar-100-python"),
        ("har2", None, r"the folder holds UCI HAR Dataset/ with activity_labels.txt and"),
        ("har6", ".", r"activity_labels.txt is missing; data.root must hold UCI HAR Dataset/"),
        ("imagenet", None, r"holds train/<wnid>/\*.JPEG and val/<wnid>/\*.JPEG, or data/train-\*.parquet"),
        ("imagenet", ".", r"does not hold imagenet as gpmt reads it; it must hold train/<wnid>"),
        ("imagefolder", ".", r"does not hold imagefolder .* train/<class>/\*.jpg and val/<class>"),
        (
            "hf",
            ".",
            r"does not hold a dataset .* data/train-\*.parquet .* or what DatasetDict.save_to_disk wrote",
        ),
        ("digits", ".", r"but digits come with scikit-learn; leave data.root out"),
    ],
)
def test_missing_data_says_which_files_belong_where(tmp_path: Path, name: str, root: str, sentence: str):
    with pytest.raises(DataError, match=sentence):
        datasets.load(name, root=None if root is None else tmp_path / root)


def test_one_mean_per_channel():
    with pytest.raises(DataError, match=r"data.mean has 3 values, but digits has 1 channels"):
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
def test_an_option_that_is_not_used_is_refused(tmp_path: Path, name: str, option: str, value):
    with pytest.raises(DataError, match=rf"^data.{option} is {value}, but {name} does not use it, only mean"):
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
