from pathlib import Path

import numpy as np
import pytest
import torch

from gpmt.errors import DataError
from gpmt.training.data import datasets
from gpmt.training.data.datasets.har import ACTIVITIES, SIGNALS


@pytest.fixture
def har(tmp_path: Path) -> Path:
    """Seven windows to train on and three to test on, in the published layout and notation."""
    root = tmp_path / "UCI HAR Dataset"
    generator = np.random.default_rng(0)
    for part, labels in (("train", [1, 2, 3, 4, 5, 6, 6]), ("test", [6, 5, 1])):
        folder = root / part / "Inertial Signals"
        folder.mkdir(parents=True)
        for channel, signal in enumerate(SIGNALS):
            values = generator.normal(channel, 1 + channel, (len(labels), 128))
            np.savetxt(folder / f"{signal}_{part}.txt", values, fmt="%16.7e", delimiter="")
        np.savetxt(root / part / f"y_{part}.txt", labels, fmt="%d")
    lines = [f"{number} {name}\n" for number, name in enumerate(ACTIVITIES, 1)]
    (root / "activity_labels.txt").write_text("".join(lines))
    return tmp_path


@pytest.mark.parametrize("inside", ["", "UCI HAR Dataset"])
def test_reads_the_published_text_files(har: Path, inside: str):
    source = datasets.load("har6", root=har / inside)
    assert (source.train_size, source.test_size, source.input_shape) == (7, 3, (128, 9))
    assert source.classes == ACTIVITIES
    assert source.test.labels.tolist() == [5, 4, 0]
    path = har / "UCI HAR Dataset" / "test" / "Inertial Signals" / "body_gyro_y_test.txt"
    assert source.test.samples[1, :, 4].tolist() == np.loadtxt(path, dtype=np.float32)[1].tolist()


def test_the_training_split_has_mean_zero_and_deviation_one_in_every_channel(har: Path):
    ((series, _),) = datasets.load("har6", root=har).train_batches(7, seed=(0,))
    assert series.dtype == torch.float32
    torch.testing.assert_close(series.mean((0, 1)), torch.zeros(9), atol=1e-5, rtol=0)
    torch.testing.assert_close(series.std((0, 1)), torch.ones(9))


def test_har2_merges_the_activities_as_published(har: Path):
    source = datasets.load("har2", root=har)
    merged = {
        name: source.classes[label] for name, label in zip(ACTIVITIES, source.train.labels, strict=False)
    }
    assert {name for name, group in merged.items() if group == source.classes[0]} == {
        "SITTING",
        "LAYING",
        "WALKING_UPSTAIRS",
    }
    assert source.classes[1] == "STANDING or WALKING or WALKING_DOWNSTAIRS"


def test_progress_counts_the_signals(har: Path):
    seen = []

    def track(items, description, total):
        seen.append((description, total))
        return items

    datasets.load("har2", root=har, track=track)
    assert seen == [("reading train signals", 9), ("reading test signals", 9)]


@pytest.mark.parametrize(
    ("path", "content", "sentence"),
    [
        (
            "train/Inertial Signals/total_acc_z_train.txt",
            None,
            r"total_acc_z_train.txt is missing; data.root must",
        ),
        ("test/y_test.txt", None, r"y_test.txt is missing"),
        ("test/y_test.txt", "1\n7\n2\n", r"has labels from 1 to 7, but must have labels from 1 to 6"),
        ("test/y_test.txt", "1\n2\n", r"body_acc_x_test.txt has 3 lines, but y_test.txt has 2; fetch both"),
        ("test/y_test.txt", "1 2\n", r"has 1 lines of 2 values, but must have 1 finite values on every line"),
        (
            "test/Inertial Signals/body_acc_x_test.txt",
            "1 2\n3\n",
            r"cannot be read as numbers \(.*fetch the file",
        ),
        ("test/Inertial Signals/body_acc_x_test.txt", "nan " * 128, r"must have 128 finite values"),
        ("activity_labels.txt", "1 RUNNING\n", r"activity_labels.txt does not list the six activities"),
    ],
)
def test_a_missing_or_damaged_file_is_named(har: Path, path: str, content: str | None, sentence: str):
    file = har / "UCI HAR Dataset" / path
    file.unlink() if content is None else file.write_text(content)
    with pytest.raises(DataError, match=sentence):
        datasets.load("har6", root=har)
