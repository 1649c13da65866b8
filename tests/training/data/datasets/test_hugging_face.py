import sys
from pathlib import Path

import datasets as hf
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from packaging.version import Version
from tests.training.data.hugging_face_folders import LABELS, TEXTS, hub, images, jpeg, texts

from gpmt.errors import DataError
from gpmt.training.data import datasets

pytestmark = pytest.mark.usefixtures("hugging_face_cache")


@pytest.mark.parametrize("name", ["imagenet", "hf"])
def test_parquet_files_give_the_same_batches_as_the_images_in_folders(tmp_path: Path, name: str):
    train, validation = images(6), images(4, first=50)
    root = hub(tmp_path / "hub", train=train, validation=validation)
    for split, rows in (("train", train), ("val", validation)):
        for number, row in enumerate(rows.cast_column("image", hf.Image(decode=False))):
            path = tmp_path / "tree" / split / "ab"[row["label"]] / f"{number}.JPEG"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(row["image"]["bytes"])
    source = datasets.load(name, root=root, size=16, workers=0)
    tree = datasets.load("imagefolder", root=tmp_path / "tree", size=16, workers=0)
    assert source.classes == ("tench", "goldfish")
    assert (source.train_size, source.test_size, source.input_shape) == (6, 4, (3, 16, 16))
    ((pixels, labels),) = source.test_batches(4)
    ((expected, tree_labels),) = tree.test_batches(4)
    order = labels.argsort(stable=True)  # the tree is sorted by class
    assert torch.equal(labels[order], tree_labels)
    assert torch.equal(pixels[order], expected)


def test_workers_read_rows_as_the_process_itself_does(tmp_path: Path):
    root = hub(tmp_path / "hub", train=images(6), test=images(2))
    own, others = (
        list(datasets.load("hf", root=root, size=16, workers=workers).train_batches(3, seed=(5,)))
        for workers in (0, 2)
    )
    for (pixels, labels), (same, same_labels) in zip(own, others, strict=True):
        assert torch.equal(pixels, same)
        assert torch.equal(labels, same_labels)


def test_what_save_to_disk_wrote_is_read(tmp_path: Path):
    root = tmp_path / "saved"
    hf.DatasetDict(train=images(4), test=images(2, first=9)).save_to_disk(root)
    source = datasets.load("hf", root=root, size=16, workers=0, train_limit=2)
    assert (source.train_size, source.test_size) == (2, 2)
    assert sorted(source.train.labels.tolist()) == [0, 1]
    ((pixels, labels),) = source.test_batches(2)
    assert (pixels.shape, labels.tolist()) == ((2, 3, 16, 16), [0, 1])


@pytest.mark.parametrize("named", [True, False])
def test_evaluation_opens_the_training_split_for_classes_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: bool
):
    parts = {"train": images(6), "test": images(4, first=9)}
    if not named:
        parts = {split: rows.cast_column("label", hf.Value("int64")) for split, rows in parts.items()}
    root = hub(tmp_path / "hub", **parts)
    whole = datasets.load("hf", root=root, size=16, workers=0)
    opened, open_parquet = [], hf.load_dataset

    def noted(kind, data_files):
        opened.append(set(data_files))
        return open_parquet(kind, data_files=data_files)

    monkeypatch.setattr(hf, "load_dataset", noted)
    source = datasets.load("hf", root=root, size=16, workers=0, training=False, test_limit=2)
    assert (source.test_size, source.classes) == (2, whole.classes)
    assert opened == ([{"test"}] if named else [{"test"}, {"train", "test"}])


def test_images_are_known_by_their_fields_in_files_of_other_tools(tmp_path: Path):
    rows = [{"bytes": jpeg(number), "path": None} for number in range(3)]
    pq.write_table(pa.table({"picture": rows, "label": [0, 2, 1]}), tmp_path / "test.parquet")
    source = datasets.load("hf", root=tmp_path, size=16, workers=0)
    assert (source.train_size, source.test_size, source.classes) == (0, 3, ("0", "1", "2"))
    assert next(source.test_batches(3))[1].tolist() == [0, 2, 1]


def test_a_damaged_row_is_named(tmp_path: Path):
    rows = [{"bytes": jpeg(0), "path": "0.JPEG"}, {"bytes": b"no", "path": "1.JPEG"}, None]
    features = hf.Features({"image": hf.Image(), "label": hf.Value("int64")})
    split = hf.Dataset.from_dict({"image": rows, "label": [0, 1, 1]}, features=features)
    root = hub(tmp_path / "hub", validation=split)
    source = datasets.load("hf", root=root, size=16, workers=0)
    batches = source.test_batches(1)
    next(batches)
    with pytest.raises(
        DataError, match=rf"^row 1 of the validation split of {root} \(1.JPEG\) cannot be read as an image"
    ):
        next(batches)
    with pytest.raises(
        DataError, match=rf"^row 2 of the validation split of {root} is empty in column image"
    ):
        source.test.read(2)


def test_labels_may_be_words(tmp_path: Path, tokenizer: Path):
    words = ["pos" if label else "neg" for label in LABELS]
    root = hub(tmp_path / "hub", train=texts(label=words), test=texts(label=words))
    source = datasets.load("hf", root=root, tokenizer=tokenizer)
    assert source.classes == ("neg", "pos")
    assert source.train.labels.tolist() == LABELS


@pytest.mark.parametrize(
    ("columns", "as_text", "sentence"),
    [
        (
            {"text": TEXTS},
            True,
            r"has columns sentence, label, text, of which exactly one must be a column named text, sentence or",
        ),
        ({}, False, r"has columns sentence, label, .* must be a column of images; .* or give data.tokenizer"),
        (
            {"labels": LABELS},
            True,
            r"has columns sentence, label, labels, of which exactly one must hold labels",
        ),
        (
            {"label": [-1] * 6},
            True,
            r"row 0 of the test split of .* has label -1, but must have one from 0 to 0",
        ),
        ({"label": [0, None, 1, 0, 1, 1]}, True, r"row 1 of the test split of .* has label None"),
        ({"sentence": [None] * 6}, True, r"row 0 of the test split of .* is empty in column sentence"),
    ],
)
def test_columns_that_are_not_clear_are_listed(tmp_path: Path, tokenizer: Path, columns, as_text, sentence):
    root = hub(tmp_path / "hub", test=texts(**columns))
    with pytest.raises(DataError, match=sentence):
        list(datasets.load("hf", root=root, tokenizer=tokenizer if as_text else None).test.read(0))


def test_splits_that_cannot_be_used_are_named(tmp_path: Path):
    with pytest.raises(DataError, match=r"has splits train, but needs one of val, validation, test"):
        datasets.load("hf", root=hub(tmp_path / "train", train=images(2)))


@pytest.mark.parametrize("saved", [False, True])
def test_an_empty_split_is_named(tmp_path: Path, saved: bool):
    root = tmp_path / "empty"
    if not saved:
        hub(root, test=images(0))
    elif Version(hf.__version__) < Version("4.6"):
        pytest.skip("datasets before 4.6 cannot save a split without images")
    else:
        hf.DatasetDict(test=images(0)).save_to_disk(root)
    with pytest.raises(DataError, match=rf"{root} holds a dataset that cannot be read"):
        datasets.load("hf", root=root)


@pytest.mark.parametrize("saved", [False, True])
def test_a_damaged_dataset_is_named(tmp_path: Path, saved: bool):
    root = tmp_path / "data"
    if saved:
        hf.DatasetDict(test=images(2)).save_to_disk(root)
        (root / "test" / "data-00000-of-00001.arrow").write_bytes(b"xx")
    else:
        hub(root, test=images(2))
        (root / "data" / "test-00000-of-00001.parquet").write_bytes(b"PAR1")
    with pytest.raises(
        DataError, match=rf"{root} holds a dataset that cannot be read \([^\n]+\); fetch it anew"
    ):
        datasets.load("hf", root=root)


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    root = hub(tmp_path / "hub", test=images(2))
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"^datasets is not installed; .* pip install '\.\[hf\]' in"):
        datasets.load("hf", root=root)
