import inspect
from pathlib import Path

import pytest
from tests.training.data.hugging_face_folders import hub, images
from tests.training.data.jpeg_trees import CLASSES

from gpmt.training.data.datasets.load import load
from gpmt.training.data.datasets.registry import DATASETS, NAMES, TEXT_OPTIONS, FileDataset
from gpmt.training.recipes.schema import Data

FILE_NAMES = [name for name, dataset in DATASETS.items() if isinstance(dataset, FileDataset)]


def test_names_are_in_the_order_of_the_table():
    assert tuple(DATASETS) == NAMES
    assert {"digits", "cifar10", "imagenet", "hf"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_options_of_a_data_set_are_those_of_load_and_of_recipes(name: str):
    options = set(DATASETS[name].options) | set(TEXT_OPTIONS if name == "hf" else ())
    assert options <= set(inspect.signature(load).parameters)
    assert options - {"tokenizer"} <= set(Data.model_fields)  # the tokenizer is that of the recipe's model


@pytest.mark.parametrize("name", ["imagenet", "imagefolder"])
def test_a_tree_of_images_has_a_class_per_folder(jpeg_tree: Path, name: str):
    train, test, classes = DATASETS[name].read(jpeg_tree, name, "trees", False, True)
    assert (len(train.labels), len(test.labels), classes) == (12, 6, CLASSES)


@pytest.mark.usefixtures("hugging_face_cache")
def test_imagenet_is_read_from_parquet_files_where_there_are_some(jpeg_tree: Path, tmp_path: Path):
    root = hub(tmp_path / "imagenet", train=images(4), validation=images(2))
    for split in ("train", "val"):
        (root / split).symlink_to(jpeg_tree / split)
    _, test, classes = DATASETS["imagenet"].read(root, "imagenet", "files", False, True)
    assert (len(test.labels), classes) == (2, ("tench", "goldfish"))


@pytest.mark.parametrize("name", FILE_NAMES)
def test_the_layout_that_is_expected_is_in_the_error(tmp_path: Path, name: str):
    with pytest.raises(ValueError, match=r"does not hold") as refused:
        load(name, root=tmp_path)
    assert DATASETS[name].expected in str(refused.value)
