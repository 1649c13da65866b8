"""Folders of Hugging Face datasets: parquet files as on the hub, or what `save_to_disk` wrote."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch
from PIL import Image
from torch import Tensor

from gpmt.errors import DataError, first_line
from gpmt.extras import import_extra
from gpmt.training.data.datasets.image_tree import EVALUATION
from gpmt.training.data.transforms import decode_image

TEXT_COLUMNS = ("text", "sentence", "content")
LABEL_COLUMNS = ("label", "labels")


@dataclass(frozen=True)
class Rows:
    """Samples in one column of a `datasets.Dataset`: their labels int64 [n] and row indices int64 [n]."""

    dataset: Any
    title: str
    column: str
    rows: Tensor
    labels: Tensor

    def read(self, index: int) -> Image.Image | str:
        """Return sample `index`: an image in RGB, or a text."""
        row = int(self.rows[index])
        value, name = self.dataset[row][self.column], f"row {row} of {self.title}"
        if isinstance(value, str):
            return value
        if isinstance(value, dict) and value["bytes"]:
            return decode_image(value["bytes"], f"{name} ({value['path'] or 'no path'})")
        raise DataError(f"{name} is empty in column {self.column}; remove the row")

    def subset(self, index: Tensor) -> Self:
        """Return the samples at `index` [m]."""
        return replace(self, rows=self.rows[index], labels=self.labels[index])


def parquet_files(root: Path) -> dict[str, list[str]]:
    """Return the parquet files of each split in `root` or `root`/data, named as on the hub."""
    found = {}
    for split in ("train", *EVALUATION):
        patterns = (f"{split}.parquet", f"{split}-*.parquet", f"{split}/*.parquet")
        places = [place.glob(pattern) for place in (root, root / "data") for pattern in patterns]
        if files := sorted(str(path) for place in places for path in place):
            found[split] = files
    return found


def load(
    root: Path, *, as_text: bool, expected: str, training: bool = True
) -> tuple[Rows | None, Rows, tuple[str, ...]]:
    """Return train samples (None where there is no such split), test samples, and the classes.

    Parquet files are converted once into the cache of `datasets` (HF_DATASETS_CACHE), from which single rows
    can be read. The test split is the first of `EVALUATION`. Columns are found by their types and names. Without
    `training`, the training split is opened only where the names of the classes are not stored.
    """
    splits = _open_splits(root, expected, training)
    test = next((split for split in EVALUATION if split in splits), None)
    if test is None:
        raise DataError(f"{root} has splits {', '.join(splits)}, but needs one of {', '.join(EVALUATION)}")
    features = splits[test].features
    column = _sample_column(features, root, as_text=as_text)
    label = _label_column(features, root)
    if not training and hasattr(features[label], "names"):
        splits.pop("train", None)
    elif not training and "train" not in splits:
        splits = _open_splits(root, expected, training=True)
    parts = {split: splits[split] for split in ("train", test) if split in splits}
    values = {split: part[label][:] for split, part in parts.items()}
    classes = _classes(features[label], [value for labels in values.values() for value in labels])
    samples = {}
    for split, part in parts.items():
        title = f"the {split} split of {root}"
        part = part.select_columns([column])
        if not as_text:  # decoded by `decode_image`, so that the error names a damaged image
            part = part.cast_column(column, import_extra("datasets", DataError).Image(decode=False))
        labels = _label_indices(values[split], classes, title)
        samples[split] = Rows(part, title, column, torch.arange(len(labels), device="cpu"), labels)
    return samples.get("train"), samples[test], classes


def _open_splits(root: Path, expected: str, training: bool) -> Any:
    datasets = import_extra("datasets", DataError)
    saved, files = (root / "dataset_dict.json").is_file(), parquet_files(root)
    if not saved and not files:
        raise DataError(f"{root} does not hold a dataset as gpmt reads it; it must hold {expected}")
    if not training and any(split in files for split in EVALUATION):
        files = {split: paths for split, paths in files.items() if split != "train"}
    try:
        if saved:
            return datasets.load_from_disk(str(root))
        return datasets.load_dataset("parquet", data_files=files)
    except (OSError, ValueError, IndexError, datasets.exceptions.DatasetGenerationError) as error:
        raise DataError(
            f"{root} holds a dataset that cannot be read ({first_line(error.__cause__ or error)}); fetch it anew"
        ) from error


def _sample_column(features: Any, root: Path, *, as_text: bool) -> str:
    """Return the column of texts by its name, or that of images by its type."""
    if as_text:
        found = [column for column in TEXT_COLUMNS if column in features]
    else:
        found = [column for column, feature in features.items() if _is_image(feature)]
    if len(found) == 1:
        return found[0]
    wanted = (
        f"column named {', '.join(TEXT_COLUMNS[:-1])} or {TEXT_COLUMNS[-1]}"
        if as_text
        else "column of images"
    )
    hint = "" if as_text else ", or give data.tokenizer to classify texts"
    raise DataError(
        f"{root} has columns {', '.join(features)}, of which exactly one must be a {wanted}; rename or remove "
        f"columns{hint}"
    )


def _is_image(feature: Any) -> bool:
    """Tell an image, also where only its fields show it, as in files that did not come from `datasets`."""
    return type(feature).__name__ == "Image" or (
        isinstance(feature, dict) and {*feature} == {"bytes", "path"}
    )


def _label_column(features: Any, root: Path) -> str:
    named = [column for column in LABEL_COLUMNS if column in features]
    found = named or [
        column for column, feature in features.items() if type(feature).__name__ == "ClassLabel"
    ]
    if len(found) == 1:
        return found[0]
    raise DataError(
        f"{root} has columns {', '.join(features)}, of which exactly one must hold labels; name it label"
    )


def _classes(feature: Any, values: Sequence[Any]) -> tuple[str, ...]:
    """Return the names of the classes: as the data set states them, or those of the labels that occur."""
    if hasattr(feature, "names"):
        return tuple(feature.names)
    if all(isinstance(value, str) for value in values):
        return tuple(sorted(set(values)))
    integers = [value for value in values if isinstance(value, int)]
    return tuple(str(label) for label in range(max([0, *integers]) + 1))


def _label_indices(values: Sequence[Any], classes: tuple[str, ...], title: str) -> Tensor:
    """Return labels as int64 [n]."""
    indices = {name: index for index, name in enumerate(classes)}
    labels = [indices.get(value, -1) if isinstance(value, str) else value for value in values]
    for row, label in enumerate(labels):
        if not isinstance(label, int) or not 0 <= label < len(classes):
            raise DataError(
                f"row {row} of {title} has label {label}, but must have one from 0 to {len(classes) - 1}"
            )
    return torch.tensor(labels, dtype=torch.int64, device="cpu")
