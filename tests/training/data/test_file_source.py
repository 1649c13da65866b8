import os
import signal
from pathlib import Path

import pytest
import torch
from PIL import Image
from tests.training.data.jpeg_trees import CLASSES, load_tree

from gpmt import system
from gpmt.errors import DataError
from gpmt.training.data import datasets
from gpmt.training.data.file_source import FileSource, default_workers
from gpmt.training.data.transforms import ImageTransform

CPU = torch.device("cpu")


def epoch(source: FileSource, batch_size: int = 4, seed: tuple[int, ...] = (0, 0, 1)):
    return list(source.train_batches(batch_size, seed=seed))


def test_a_tree_is_described_by_its_folders(jpeg_tree: Path):
    source = load_tree(jpeg_tree)
    assert source.classes == CLASSES
    assert (source.train_size, source.test_size, source.input_shape) == (12, 6, (3, 16, 16))
    assert source.train.labels.tolist() == [label for label in range(3) for _ in range(4)]
    assert source.train.path(5) == jpeg_tree / "train" / CLASSES[1] / f"{CLASSES[1]}_1.JPEG"
    example = source.example()
    assert example.shape == (1, 3, 16, 16)
    assert not example.any()


def test_an_epoch_shows_every_image_once_in_an_order_and_augmentation_of_the_seed_alone(jpeg_tree: Path):
    source = load_tree(jpeg_tree)
    batches = epoch(source)
    labels = torch.cat([labels for _, labels in batches])
    assert torch.bincount(labels).tolist() == [4, 4, 4]
    images = torch.cat([images for images, _ in batches])
    assert torch.equal(images, torch.cat([images for images, _ in epoch(source)]))
    others = [epoch(source, seed=seed) for seed in ((0, 0, 2), (1, 0, 1))]
    for other in others:
        assert not torch.equal(images, torch.cat([images for images, _ in other]))
        assert not torch.equal(labels, torch.cat([labels for _, labels in other]))


@pytest.mark.parametrize(("workers", "processes"), [(2, 1), (0, 2), (1, 2)])
def test_any_number_of_workers_and_processes_gives_the_same_batches(
    jpeg_tree: Path, workers: int, processes: int
):
    whole = epoch(load_tree(jpeg_tree))
    parts = [
        epoch(load_tree(jpeg_tree, workers=workers).placed(CPU, rank=rank, processes=processes))
        for rank in range(processes)
    ]
    assert [len(part) for part in parts] == [3] * processes
    assert load_tree(jpeg_tree).placed(CPU, rank=0, processes=processes).train_steps(4) == 3
    for number, (images, labels) in enumerate(whole):
        assert torch.equal(torch.cat([part[number][0] for part in parts]), images)
        assert torch.equal(torch.cat([part[number][1] for part in parts]), labels)


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_evaluation_sees_every_image_once_over_all_processes(jpeg_tree: Path, processes: int):
    sources = [load_tree(jpeg_tree).placed(CPU, rank=rank, processes=processes) for rank in range(processes)]
    labels = torch.cat([labels for source in sources for _, labels in source.test_batches(2)])
    assert sorted(labels.tolist()) == [0, 0, 1, 1, 2, 2]


def test_plain_batches_are_training_images_as_for_evaluation(jpeg_tree: Path):
    sources = [load_tree(jpeg_tree).placed(CPU, rank=rank, processes=2) for rank in range(2)]
    first, second = ([*source.plain_batches(4, images=6)] for source in sources)
    assert [len(labels) for _, labels in first] == [4, 2]
    for (images, labels), (same, same_labels) in zip(first, second, strict=True):
        assert torch.equal(images, same)
        assert torch.equal(labels, same_labels)
    source = sources[0]
    plain = torch.stack([source.transform.evaluation_input(source.train.read(index)) for index in range(12)])
    shown = torch.cat([images for images, _ in first])
    matches = (shown[:, None] == source.transform.finish_batch(plain)).flatten(2).all(2)
    assert matches.sum(1).tolist() == [1] * 6
    assert len(torch.cat([labels for _, labels in first]).unique()) > 1
    assert sum(len(labels) for _, labels in source.plain_batches(8, images=100)) == 12


@pytest.mark.parametrize("workers", [0, 1])
def test_reading_leaves_the_generator_of_the_network_alone(jpeg_tree: Path, workers: int):
    before = torch.get_rng_state()
    epoch(load_tree(jpeg_tree, workers=workers))
    assert torch.equal(torch.get_rng_state(), before)


def test_limits_choose_evenly_and_always_the_same(jpeg_tree: Path):
    first, second = (load_tree(jpeg_tree, train_limit=7, test_limit=3) for _ in range(2))
    assert (first.train_size, first.test_size) == (7, 3)
    assert first.train.names.tolist() == second.train.names.tolist()
    assert sorted(torch.bincount(first.train.labels).tolist()) == [2, 2, 3]
    assert first.test.labels.tolist() == [0, 1, 2]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_image_is_named(tmp_path: Path, workers: int):
    folder = tmp_path / "dogs"
    folder.mkdir()
    (folder / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0 no image")
    source = datasets.load("imagefolder", root=tmp_path, workers=workers)
    with pytest.raises(
        DataError, match=rf"^{folder}/cut.jpg cannot be read as an image \([^\n]*\); replace or"
    ):
        list(source.test_batches(1))


def test_a_killed_worker_is_reported_in_one_sentence():
    class Deadly:
        labels = torch.zeros(4, dtype=torch.int64)

        def read(self, index: int) -> Image.Image:
            os.kill(os.getpid(), signal.SIGKILL)

    source = FileSource(None, Deadly(), ("a",), ImageTransform(4, 4, "bilinear", (0.0,), (1.0,)), workers=1)
    with pytest.raises(DataError, match=r"^a worker that reads the data died \(.*\), .* lower data.workers$"):
        list(source.test_batches(2))


@pytest.mark.parametrize("place", ["val", "."])
def test_a_test_split_alone_is_enough_to_evaluate(jpeg_tree: Path, tmp_path: Path, place: str):
    (tmp_path / place).parent.mkdir(exist_ok=True)
    root = tmp_path / "data"
    if place == ".":
        root.symlink_to(jpeg_tree / "val")
    else:
        root.mkdir()
        (root / "val").symlink_to(jpeg_tree / "val")
    source = load_tree(root)
    assert (source.train_size, source.test_size, source.train_steps(2), source.classes) == (0, 6, 0, CLASSES)
    for batches in (
        lambda: source.train_batches(2, seed=(0,)),
        lambda: source.plain_batches(2, images=2),
    ):
        with pytest.raises(DataError, match="have a test split only, which is for evaluation"):
            batches()
    with pytest.raises(DataError, match=r"data.train_limit is 2, but .* has no train split; leave it out"):
        load_tree(root, train_limit=2)


@pytest.mark.parametrize(
    ("cores", "processes", "workers"), [(1, 1, 0), (2, 1, 1), (64, 1, 8), (64, 8, 7), (4, 8, 0)]
)
def test_workers_take_the_cores_left_over(monkeypatch, cores: int, processes: int, workers: int):
    monkeypatch.setattr(system.os, "sched_getaffinity", lambda pid: range(cores), raising=False)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    assert default_workers() == workers
