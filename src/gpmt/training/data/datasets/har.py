"""Human activities from a phone's sensors: UCI HAR (Anguita et al. 2013), in its published text format."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gpmt.errors import DataError
from gpmt.training.data.datasets.data_root import Track, check_root
from gpmt.training.data.in_memory_source import SeriesSource, Split

STEPS = 128
SIGNALS = tuple(f"{kind}_{axis}" for kind in ("body_acc", "body_gyro", "total_acc") for axis in "xyz")
ACTIVITIES = ("WALKING", "WALKING_UPSTAIRS", "WALKING_DOWNSTAIRS", "SITTING", "STANDING", "LAYING")
EXPECTED = (
    "UCI HAR Dataset/ with activity_labels.txt and, for train and test, train/y_train.txt and "
    "train/Inertial Signals/{body_acc,body_gyro,total_acc}_{x,y,z}_train.txt"
)

HAR2 = (("SITTING", "LAYING", "WALKING_UPSTAIRS"), ("STANDING", "WALKING", "WALKING_DOWNSTAIRS"))
"""How HAR-2 merges the activities: Kusupati et al., FastGRNN (2018, arXiv 1901.02358), on the data sets."""


def load(name: str, root: Path | None, track: Track) -> SeriesSource:
    """Return ``har6``, the six activities, or ``har2``, which merges them into two.

    A sample is a window of 128 steps (2.56 s) of 9 signals, in the order of `SIGNALS`. Mean and deviation
    of each signal are those of the training split.
    """
    root = check_root(root, name, EXPECTED)
    if (root / "UCI HAR Dataset").is_dir():
        root = root / "UCI HAR Dataset"
    _check_activities(_existing(root / "activity_labels.txt"))
    train, test = (_split(root, part, track) for part in ("train", "test"))
    values = train.samples.double()
    mean, std = (tuple(statistic.tolist()) for statistic in (values.mean((0, 1)), values.std((0, 1))))
    if name == "har6":
        return SeriesSource(train, test, ACTIVITIES, mean, std)
    merged = torch.tensor([int(activity in HAR2[1]) for activity in ACTIVITIES], device="cpu")
    train, test = (Split(split.samples, merged[split.labels]) for split in (train, test))
    return SeriesSource(train, test, tuple(" or ".join(group) for group in HAR2), mean, std)


def _split(root: Path, part: str, track: Track) -> Split:
    labels = _read_values(root / part / f"y_{part}.txt", columns=1)[:, 0].long() - 1
    if labels.min() < 0 or labels.max() >= len(ACTIVITIES):
        raise DataError(
            f"{root / part / f'y_{part}.txt'} has labels from {labels.min() + 1} to {labels.max() + 1}, but must "
            "have labels from 1 to 6; fetch the file anew"
        )

    def signals() -> Iterator[Tensor]:
        for signal in SIGNALS:
            path = root / part / "Inertial Signals" / f"{signal}_{part}.txt"
            values = _read_values(path, columns=STEPS)
            if len(values) != len(labels):
                raise DataError(
                    f"{path} has {len(values):,} lines, but y_{part}.txt has {len(labels):,}; fetch both anew"
                )
            yield values

    samples = torch.stack(list(track(signals(), f"reading {part} signals", len(SIGNALS))), dim=2)
    return Split(samples, labels)


def _read_values(path: Path, *, columns: int) -> Tensor:
    """Return the values of a text file as float32 [lines, columns]."""
    try:
        values = np.loadtxt(_existing(path), dtype=np.float32, ndmin=2)
    except ValueError as error:
        raise DataError(f"{path} cannot be read as numbers ({error}); fetch the file anew") from error
    if values.shape[1] != columns or not len(values) or not np.isfinite(values).all():
        raise DataError(
            f"{path} has {len(values):,} lines of {values.shape[1]} values, but must have {columns} finite values "
            "on every line; fetch the file anew"
        )
    return torch.from_numpy(values)


def _check_activities(path: Path) -> None:
    found = path.read_text(encoding="utf-8", errors="replace").split()
    if found != [word for number, name in enumerate(ACTIVITIES, 1) for word in (str(number), name)]:
        raise DataError(f"{path} does not list the six activities from 1 WALKING to 6 LAYING; fetch it anew")


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise DataError(f"{path} is missing; data.root must hold {EXPECTED}")
    return path
