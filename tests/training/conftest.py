"""Small stand-ins for the data sets a user has."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.threads import one_thread

CLASSES = ("bright", "dark", "even", "odd", "plain", "rough")


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """Networks this small train faster on one thread, and always to the same bits."""
    with one_thread():
        yield


@pytest.fixture(scope="session")
def shared_image_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six classes of 12×12 PNG files that differ in brightness: 6 to train on, 4 to test on, of each."""
    root = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    for split, count in (("train", 6), ("test", 4)):
        for label, name in enumerate(CLASSES):
            folder = root / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = generator.integers(0, 150, (12, 12, 3)) + 20 * label
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index:02}.png")
    return root


@pytest.fixture
def image_tree(shared_image_tree: Path, tmp_path: Path) -> Path:
    """A tree of images of the test's own, to damage at will."""
    return shutil.copytree(shared_image_tree, tmp_path / "images")
