import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from gpmt.errors import DataError
from gpmt.training.data import datasets, from_files
from gpmt.training.data.from_files import FromFiles, default_workers
from gpmt.training.data.transforms import IMAGENET_MEAN, IMAGENET_STD, ImageForm

CPU = torch.device("cpu")
CLASSES = ("n01440764", "n01443537", "n01484850")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """JPEG files of three classes and many sizes, brighter to the right: 4 to train on, 2 to evaluate, of each."""
    root = tmp_path_factory.mktemp("imagenet")
    generator = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2)):
        for name in CLASSES:
            folder = root / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                height, width = generator.integers(20, 40, 2)
                pixels = generator.integers(0, 60, (height, width, 3)) + np.linspace(0, 190, width)[:, None]
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{name}_{index}.JPEG")
    return root


def load(root: Path, *, size: int = 16, workers: int = 0, **options) -> FromFiles:
    return datasets.load("imagenet", root=root, size=size, workers=workers, **options)


def epoch(source: FromFiles, batch_size: int = 4, seed: tuple[int, ...] = (0, 0, 1)):
    return list(source.train_batches(batch_size, seed=seed))


def test_a_tree_is_described_by_its_folders(tree: Path):
    source = load(tree)
    assert source.classes == CLASSES
    assert (source.train_size, source.test_size, source.input_shape) == (12, 6, (3, 16, 16))
    assert source.train.labels.tolist() == [label for label in range(3) for _ in range(4)]
    assert source.train.path(5) == tree / "train" / CLASSES[1] / f"{CLASSES[1]}_1.JPEG"
    example = source.example()
    assert example.shape == (1, 3, 16, 16)
    assert not example.any()


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest"])
@pytest.mark.parametrize("options", [{}, {"resize": 24, "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4)}])
def test_evaluation_is_the_published_transform(tree: Path, interpolation: str, options: dict):
    published = transforms.Compose(
        [
            transforms.Resize(
                options.get("resize", 18), interpolation=transforms.InterpolationMode(interpolation)
            ),
            transforms.CenterCrop(16),
            transforms.ToTensor(),
            transforms.Normalize(options.get("mean", IMAGENET_MEAN), options.get("std", IMAGENET_STD)),
        ]
    )
    images, labels = zip(*load(tree, interpolation=interpolation, **options).test_batches(4), strict=True)
    files = sorted((tree / "val").rglob("*.JPEG"))
    expected = torch.stack([published(Image.open(path)) for path in files])
    torch.testing.assert_close(torch.cat(images), expected, atol=1e-5, rtol=0)
    assert torch.cat(labels).tolist() == [0, 0, 1, 1, 2, 2]


def test_training_is_the_published_augmentation(tree: Path):
    source = load(tree)
    image = source.train.read(0)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        drawn = [source.form.augmented(image) for _ in range(200)]
        torch.manual_seed(3)
        published = transforms.Compose([transforms.RandomResizedCrop(16), transforms.RandomHorizontalFlip()])
        expected = [torch.from_numpy(np.array(published(image))) for _ in range(200)]
    assert all(torch.equal(own, other) for own, other in zip(drawn, expected, strict=True))
    mirrored = sum(bool(pixels[:, 0].sum() > pixels[:, -1].sum()) for pixels in drawn)
    assert 70 < mirrored < 130


def test_the_default_size_is_that_of_imagenet(tree: Path):
    form = datasets.load("imagenet", root=tree, workers=0).form
    assert isinstance(form, ImageForm)
    assert (form.size, form.resize, form.interpolation) == (224, 256, "bilinear")


def test_an_epoch_shows_every_image_once_in_an_order_and_augmentation_of_the_seed_alone(tree: Path):
    source = load(tree)
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
def test_any_number_of_workers_and_processes_gives_the_same_batches(tree: Path, workers: int, processes: int):
    whole = epoch(load(tree))
    parts = [
        epoch(load(tree, workers=workers).placed(CPU, rank=rank, processes=processes))
        for rank in range(processes)
    ]
    assert [len(part) for part in parts] == [3] * processes
    assert load(tree).placed(CPU, rank=0, processes=processes).train_steps(4) == 3
    for number, (images, labels) in enumerate(whole):
        assert torch.equal(torch.cat([part[number][0] for part in parts]), images)
        assert torch.equal(torch.cat([part[number][1] for part in parts]), labels)


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_evaluation_sees_every_image_once_over_all_processes(tree: Path, processes: int):
    sources = [load(tree).placed(CPU, rank=rank, processes=processes) for rank in range(processes)]
    labels = torch.cat([labels for source in sources for _, labels in source.test_batches(2)])
    assert sorted(labels.tolist()) == [0, 0, 1, 1, 2, 2]


def test_plain_batches_are_training_images_as_for_evaluation(tree: Path):
    sources = [load(tree).placed(CPU, rank=rank, processes=2) for rank in range(2)]
    first, second = ([*source.plain_batches(4, images=6)] for source in sources)
    assert [len(labels) for _, labels in first] == [4, 2]
    for (images, labels), (same, same_labels) in zip(first, second, strict=True):
        assert torch.equal(images, same)
        assert torch.equal(labels, same_labels)
    source = sources[0]
    plain = torch.stack([source.form.plain(source.train.read(index)) for index in range(12)])
    shown = torch.cat([images for images, _ in first])
    matches = (shown[:, None] == source.form.finished(plain)).flatten(2).all(2)
    assert matches.sum(1).tolist() == [1] * 6
    assert len(torch.cat([labels for _, labels in first]).unique()) > 1
    assert sum(len(labels) for _, labels in source.plain_batches(8, images=100)) == 12


@pytest.mark.parametrize("workers", [0, 1])
def test_reading_leaves_the_generator_of_the_network_alone(tree: Path, workers: int):
    before = torch.get_rng_state()
    epoch(load(tree, workers=workers))
    assert torch.equal(torch.get_rng_state(), before)


def test_limits_choose_evenly_and_always_the_same(tree: Path):
    first, second = (load(tree, train_limit=7, test_limit=3) for _ in range(2))
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


def test_an_image_that_would_fill_the_memory_is_refused(tree: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(DataError, match=r"_0.JPEG cannot be read as an image \(.*decompression bomb"):
        list(load(tree).test_batches(1))


def test_a_killed_worker_is_told_in_a_sentence():
    class Deadly:
        labels = torch.zeros(4, dtype=torch.int64)

        def read(self, index: int) -> Image.Image:
            os.kill(os.getpid(), signal.SIGKILL)

    source = FromFiles(None, Deadly(), ("a",), ImageForm(4, 4, "bilinear", (0.0,), (1.0,)), workers=1)
    with pytest.raises(DataError, match=r"^a worker that reads the data died \(.*\), .* lower data.workers$"):
        list(source.test_batches(2))


@pytest.mark.parametrize("place", ["val", "."])
def test_a_test_split_alone_is_enough_to_evaluate(tree: Path, tmp_path: Path, place: str):
    (tmp_path / place).parent.mkdir(exist_ok=True)
    root = tmp_path / "data"
    if place == ".":
        root.symlink_to(tree / "val")
    else:
        root.mkdir()
        (root / "val").symlink_to(tree / "val")
    source = load(root)
    assert (source.train_size, source.test_size, source.train_steps(2), source.classes) == (0, 6, 0, CLASSES)
    for batches in (
        lambda: source.train_batches(2, seed=(0,)),
        lambda: source.plain_batches(2, images=2),
    ):
        with pytest.raises(DataError, match="have a test split only, which is enough to evaluate"):
            batches()
    with pytest.raises(DataError, match=r"data.train_limit is 2, but .* has no train split; leave it out"):
        load(root, train_limit=2)


@pytest.mark.parametrize("split", ["val", "validation", "test"])
def test_an_image_folder_may_call_its_test_split_as_it_likes(tree: Path, tmp_path: Path, split: str):
    (tmp_path / "train").symlink_to(tree / "train")
    (tmp_path / split).symlink_to(tree / "val")
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


def test_what_a_tree_lacks_is_said(tree: Path, tmp_path: Path):
    (tmp_path / "train").symlink_to(tree / "train")
    with pytest.raises(DataError, match=r"holds no imagenet that can be read; it must hold train/<wnid>"):
        load(tmp_path)
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "ILSVRC2012_val_00000001.JPEG").touch()
    with pytest.raises(DataError, match=r"val holds no images; it must hold val/<class>/\*.jpg"):
        load(tmp_path)
    (tmp_path / "val" / "n99999999").mkdir()
    (tmp_path / "val" / "n99999999" / "0.JPEG").touch()
    with pytest.raises(DataError, match=r"has class n01440764 in only one of train and val"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"interpolation": "cubic"},
            r"data.interpolation is cubic, but must be one of bilinear, bicubic, nearest",
        ),
        ({"size": 0}, r"data.size is 0 and data.resize 0"),
        ({"size": 32, "resize": 31}, r"data.size is 32 and data.resize 31, but .* resize no smaller than it"),
        ({"mean": (0.5,)}, r"data.mean has 1 numbers, but imagenet has 3 channels"),
    ],
)
def test_a_wrong_option_is_refused(tree: Path, options: dict, sentence: str):
    with pytest.raises(DataError, match=sentence):
        load(tree, **options)


@pytest.mark.parametrize(
    ("cores", "processes", "workers"), [(1, 1, 0), (2, 1, 1), (64, 1, 8), (64, 8, 7), (4, 8, 0)]
)
def test_workers_take_the_cores_left_over(monkeypatch, cores: int, processes: int, workers: int):
    monkeypatch.setattr(from_files.os, "sched_getaffinity", lambda pid: range(cores), raising=False)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    assert default_workers() == workers
