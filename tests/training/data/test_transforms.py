from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.training.data.jpeg_trees import load_tree
from tests.training.no_waiting import noting_waits
from torchvision import transforms

from gpmt.errors import DataError
from gpmt.training.data import datasets
from gpmt.training.data.transforms import IMAGENET_MEAN, IMAGENET_STD, ImageTransform


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest"])
@pytest.mark.parametrize("options", [{}, {"resize": 24, "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4)}])
def test_evaluation_is_the_published_transform(jpeg_tree: Path, interpolation: str, options: dict):
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
    images, labels = zip(
        *load_tree(jpeg_tree, interpolation=interpolation, **options).test_batches(4), strict=True
    )
    files = sorted((jpeg_tree / "val").rglob("*.JPEG"))
    expected = torch.stack([published(Image.open(path)) for path in files])
    torch.testing.assert_close(torch.cat(images), expected, atol=1e-5, rtol=0)
    assert torch.cat(labels).tolist() == [0, 0, 1, 1, 2, 2]


def test_training_is_the_published_augmentation(jpeg_tree: Path):
    source = load_tree(jpeg_tree)
    image = source.train.read(0)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        drawn = [source.transform.training_input(image) for _ in range(200)]
        torch.manual_seed(3)
        published = transforms.Compose([transforms.RandomResizedCrop(16), transforms.RandomHorizontalFlip()])
        expected = [torch.from_numpy(np.array(published(image))) for _ in range(200)]
    assert all(torch.equal(own, other) for own, other in zip(drawn, expected, strict=True))
    mirrored = sum(bool(pixels[:, 0].sum() > pixels[:, -1].sum()) for pixels in drawn)
    assert 70 < mirrored < 130


def test_the_default_size_is_that_of_imagenet(jpeg_tree: Path):
    transform = datasets.load("imagenet", root=jpeg_tree, workers=0).transform
    assert isinstance(transform, ImageTransform)
    assert (transform.size, transform.resize, transform.interpolation) == (224, 256, "bilinear")


def test_an_image_that_would_fill_the_memory_is_refused(jpeg_tree: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(DataError, match=r"_0.JPEG cannot be read as an image \(.*decompression bomb"):
        list(load_tree(jpeg_tree).test_batches(1))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"interpolation": "cubic"},
            r"data.interpolation is cubic, but must be one of bilinear, bicubic, nearest",
        ),
        ({"size": 0}, r"data.size is 0 and data.resize 0"),
        ({"size": 32, "resize": 31}, r"data.size is 32 and data.resize 31, but .* resize no smaller than it"),
        ({"mean": (0.5,)}, r"data.mean has 1 values, but imagenet has 3 channels"),
    ],
)
def test_a_wrong_option_is_refused(jpeg_tree: Path, options: dict, sentence: str):
    with pytest.raises(DataError, match=sentence):
        load_tree(jpeg_tree, **options)


def test_batches_of_images_are_normalised_without_waiting_for_the_device():
    transform = ImageTransform(16, 18, "bilinear", IMAGENET_MEAN, IMAGENET_STD)
    pixels = torch.zeros(2, 16, 16, 3, dtype=torch.uint8, device="meta")
    transform.finish_batch(pixels)
    with noting_waits() as found:
        transform.finish_batch(pixels)
    assert not found
