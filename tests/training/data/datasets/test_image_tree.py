import os
from pathlib import Path

import pytest
from tests.training.data.jpeg_trees import load_tree

from gpmt.errors import DataError
from gpmt.training.data import datasets


def test_evaluation_does_not_list_the_training_images(image_tree: Path, monkeypatch: pytest.MonkeyPatch):
    whole = datasets.load("imagefolder", root=image_tree, workers=0)
    walked, walk = [], os.walk
    monkeypatch.setattr(os, "walk", lambda top, **options: walked.append(Path(top)) or walk(top, **options))
    source = datasets.load("imagefolder", root=image_tree, workers=0, test_limit=2, training=False)
    assert (source.train_size, source.test_size, source.classes) == (0, 2, whole.classes)
    assert walked
    assert not [path for path in walked if path.is_relative_to(image_tree / "train")]
    (image_tree / "train" / "another").mkdir()
    with pytest.raises(DataError, match="has class another in only one of train and "):
        datasets.load("imagefolder", root=image_tree, training=False)


def test_train_and_test_need_the_same_classes(image_tree: Path):
    (image_tree / "test" / "dark").rename(image_tree / "test" / "fox")
    with pytest.raises(DataError, match="has class dark in only one of train and test"):
        datasets.load("cifar10", root=image_tree)


def test_a_split_without_images(image_tree: Path):
    for path in (image_tree / "test").rglob("*.png"):
        path.unlink()
    with pytest.raises(DataError, match=r"test does not hold images; it must hold test/<class>/\*.jpg"):
        datasets.load("cifar10", root=image_tree)


@pytest.mark.parametrize("split", ["val", "validation", "test"])
def test_an_image_folder_may_call_its_test_split_as_it_likes(jpeg_tree: Path, tmp_path: Path, split: str):
    (tmp_path / "train").symlink_to(jpeg_tree / "train")
    (tmp_path / split).symlink_to(jpeg_tree / "val")
    source = datasets.load("imagefolder", root=tmp_path, workers=0)
    assert (source.train_size, source.test_size) == (12, 6)


def test_images_may_lie_deeper_in_the_folder_of_their_class(tmp_path: Path):
    for path in ("a/1.png", "a/more/0.png", "b/2.webp", "b/notes.txt", ".hidden/3.png"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    source = datasets.load("imagefolder", root=tmp_path)
    assert source.classes == ("a", "b")
    assert [str(source.test.path(i).relative_to(tmp_path)) for i in range(3)] == [
        "a/1.png",
        "a/more/0.png",
        "b/2.webp",
    ]


def test_what_a_tree_lacks_is_said(jpeg_tree: Path, tmp_path: Path):
    (tmp_path / "train").symlink_to(jpeg_tree / "train")
    with pytest.raises(
        DataError, match=r"does not hold imagenet as gpmt reads it; it must hold train/<wnid>"
    ):
        load_tree(tmp_path)
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "ILSVRC2012_val_00000001.JPEG").touch()
    with pytest.raises(DataError, match=r"val does not hold images; it must hold val/<class>/\*.jpg"):
        load_tree(tmp_path)
    (tmp_path / "val" / "n99999999").mkdir()
    (tmp_path / "val" / "n99999999" / "0.JPEG").touch()
    with pytest.raises(DataError, match=r"has class n01440764 in only one of train and val"):
        load_tree(tmp_path)
