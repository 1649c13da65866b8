"""Small stand-ins for the data sets a user has."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

CLASSES = ("cat", "dog")


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """Networks this small train faster on one thread, and always to the same bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def image_tree(tmp_path: Path) -> Path:
    """Two classes of 12×12 PNG files, one bright and one dark: 12 to train on, 6 to test on, of each."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 12), ("test", 6)):
        for label, name in enumerate(CLASSES):
            folder = tmp_path / "images" / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = generator.integers(0, 100, (12, 12, 3), dtype=np.uint8) + 150 * label
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index:02}.png")
    return tmp_path / "images"
