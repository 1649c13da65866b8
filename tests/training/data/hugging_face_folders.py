"""Folders of Hugging Face datasets, as a user has them."""

from io import BytesIO
from pathlib import Path

import datasets as hf
import numpy as np
from PIL import Image

TEXTS = ["good film", "bad film", "good good good film", "bad", "good", "film bad"]
LABELS = [1, 0, 1, 0, 1, 0]


def jpeg(seed: int) -> bytes:
    content = BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(content, "JPEG")
    return content.getvalue()


def images(count: int, *, first: int = 0) -> hf.Dataset:
    features = hf.Features({"image": hf.Image(), "label": hf.ClassLabel(names=["tench", "goldfish"])})
    rows = [{"bytes": jpeg(first + number), "path": f"{first + number}.JPEG"} for number in range(count)]
    return hf.Dataset.from_dict({"image": rows, "label": [n % 2 for n in range(count)]}, features=features)


def texts(**columns) -> hf.Dataset:
    return hf.Dataset.from_dict({"sentence": TEXTS, "label": LABELS} | columns)


def hub(root: Path, **splits: hf.Dataset) -> Path:
    """Write a folder as it is on the hub."""
    (root / "data").mkdir(parents=True)
    for name, split in splits.items():
        split.to_parquet(root / "data" / f"{name}-00000-of-00001.parquet")
    return root
