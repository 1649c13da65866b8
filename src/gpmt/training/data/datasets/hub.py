"""Folders of Hugging Face datasets: parquet files as on the hub, or what `save_to_disk` wrote."""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch
from PIL import Image
from torch import Tensor

from gpmt.errors import DataError, reason
from gpmt.training.data.datasets.image_tree import EVALUATION
from gpmt.training.data.transforms import TextForm, decoded

TEXT_COLUMNS = ("text", "sentence", "content")
LABEL_COLUMNS = ("label", "labels")
MAX_LENGTH = 128
"""Tokens of a text where nothing is said: enough for sentences and short reviews."""


@dataclass(frozen=True)
class Rows:
    """Samples in one column of a `datasets.Dataset`: labels int64 [n], and the numbers of their rows [n]."""

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
            return decoded(value["bytes"], f"{name} ({value['path'] or 'no path'})")
        raise DataError(f"{name} has nothing in column {self.column}; remove the row")

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


def load(root: Path, *, as_text: bool, expected: str) -> tuple[Rows | None, Rows, tuple[str, ...]]:
    """Return train and test samples, without the former where there is none, and the classes.

    Parquet files are copied once into the cache of `datasets` (HF_DATASETS_CACHE), where single rows can be
    reached. The test split is the first of `EVALUATION`. Columns are found by their types and names.
    """
    splits = _open(root, expected)
    test = next((split for split in EVALUATION if split in splits), None)
    if test is None:
        raise DataError(f"{root} has splits {', '.join(splits)}, but needs one of {', '.join(EVALUATION)}")
    features = splits[test].features
    column = _sample_column(features, root, as_text=as_text)
    label = _label_column(features, root)
    parts = {split: splits[split] for split in ("train", test) if split in splits}
    values = {split: part[label][:] for split, part in parts.items()}
    classes = _classes(features[label], [value for labels in values.values() for value in labels])
    samples = {}
    for split, part in parts.items():
        title = f"the {split} split of {root}"
        part = part.select_columns([column])
        if not as_text:  # decoded here as everywhere else, so that a damaged image is named
            part = part.cast_column(column, package("datasets").Image(decode=False))
        labels = _numbered(values[split], classes, title)
        samples[split] = Rows(part, title, column, torch.arange(len(labels)), labels)
    return samples.get("train"), samples[test], classes


def text_form(folder: Path, max_length: int | None) -> TextForm:
    """Return the form of texts for the tokenizer in `folder`, which runs no code from there."""
    folder = folder.expanduser()
    if not folder.is_dir():
        raise DataError(
            f"data.tokenizer is {folder}, which is not a folder; give one that save_pretrained wrote"
        )
    try:
        tokenizer = package("transformers").AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"data.tokenizer is {folder}, which holds no tokenizer that can be read ({reason(error)})"
        ) from error
    if tokenizer.pad_token is None:
        raise DataError(f"the tokenizer in {folder} has no padding token; add one and save it again")
    longest = tokenizer.model_max_length
    length = min(MAX_LENGTH, longest) if max_length is None else max_length
    if not 1 <= length <= longest:
        raise DataError(f"data.max_length is {length}, but the tokenizer in {folder} takes 1 to {longest:,}")
    return TextForm(tokenizer, length)


def package(name: str) -> Any:
    """Import a package of the extra `hf`."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise DataError(f"{name} is not installed; pip install 'gpmt[hf]' brings it") from error


def _open(root: Path, expected: str) -> Any:
    datasets = package("datasets")
    saved, files = (root / "dataset_dict.json").is_file(), parquet_files(root)
    if not saved and not files:
        raise DataError(f"{root} holds no dataset that can be read; it must hold {expected}")
    try:
        if saved:
            return datasets.load_from_disk(str(root))
        return datasets.load_dataset("parquet", data_files=files)
    except (OSError, ValueError, IndexError, datasets.exceptions.DatasetGenerationError) as error:
        raise DataError(
            f"{root} holds a dataset that cannot be read ({reason(error.__cause__ or error)}); fetch it anew"
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
    numbers = [value for value in values if isinstance(value, int)]
    return tuple(str(label) for label in range(max([0, *numbers]) + 1))


def _numbered(values: Sequence[Any], classes: tuple[str, ...], title: str) -> Tensor:
    """Return labels as int64 [n]."""
    numbers = {name: number for number, name in enumerate(classes)}
    labels = [numbers.get(value, -1) if isinstance(value, str) else value for value in values]
    for row, label in enumerate(labels):
        if not isinstance(label, int) or not 0 <= label < len(classes):
            raise DataError(
                f"row {row} of {title} has label {label}, but must have one from 0 to {len(classes) - 1}"
            )
    return torch.tensor(labels, dtype=torch.int64)
