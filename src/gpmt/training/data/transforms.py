"""How an image or a text becomes an input: the published augmentation, and tokens."""

from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gpmt.errors import DataError
from gpmt.training.data.source import normalised

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
INTERPOLATIONS = ("bilinear", "bicubic", "nearest")


def decoded(source: Path | bytes, name: str) -> Image.Image:
    """Return an image file, or its bytes, in RGB; DataError gives its `name` where it is damaged.

    The orientation that a camera noted is ignored, as torchvision and the published training do.
    """
    try:
        with Image.open(BytesIO(source) if isinstance(source, bytes) else source) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{name} cannot be read as an image ({error}); replace or remove the file") from error


@dataclass(frozen=True)
class ImageForm:
    """Square images of `size` pixels; the augmentation is the one ImageNet results are published with.

    For training a part of 8 to 100 % of the image, of aspect 3:4 to 4:3, is scaled to `size` and mirrored with
    probability one half. For evaluation the shorter side is scaled to `resize` and the middle is cut out.
    """

    size: int
    resize: int
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.interpolation not in INTERPOLATIONS:
            raise DataError(
                f"data.interpolation is {self.interpolation}, but must be one of {', '.join(INTERPOLATIONS)}"
            )
        if not 1 <= self.size <= self.resize:
            raise DataError(
                f"data.size is {self.size} and data.resize {self.resize}, but size must be at least 1, and resize "
                "no smaller than it"
            )

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Channels, height and width."""
        return 3, self.size, self.size

    @cached_property
    def _transforms(self) -> tuple[Any, Any]:
        from torchvision.transforms import InterpolationMode, v2

        mode = InterpolationMode(self.interpolation)
        crop = v2.RandomResizedCrop(self.size, interpolation=mode, antialias=True)
        resize = v2.Resize(self.resize, interpolation=mode, antialias=True)
        return v2.Compose([resize, v2.CenterCrop(self.size)]), v2.Compose([crop, v2.RandomHorizontalFlip()])

    def plain(self, sample: Image.Image) -> Tensor:
        """Return the pixels for evaluation, uint8 [size, size, 3]."""
        return torch.from_numpy(np.array(self._transforms[0](sample)))

    def augmented(self, sample: Image.Image) -> Tensor:
        """Return the pixels for training, uint8 [size, size, 3]."""
        return torch.from_numpy(np.array(self._transforms[1](sample)))

    def finished(self, batch: Tensor) -> Tensor:
        """Return float32 [b, 3, size, size]; bytes are normalised here, since four times fewer are moved."""
        return normalised(batch, mean=self.mean, std=self.std)

    def example(self) -> Tensor:
        """Return zeros [1, 3, size, size]."""
        return torch.zeros(1, *self.input_shape)


@dataclass(frozen=True)
class TextForm:
    """Texts as tokens, cut or padded to `max_length`, in the keywords the tokenizer gives (int64)."""

    tokenizer: Any
    max_length: int

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Number of tokens."""
        return (self.max_length,)

    def plain(self, sample: str) -> dict[str, Tensor]:
        """Return input_ids, attention_mask and, for networks that take them, token_type_ids, each [max_length]."""
        tokens = self.tokenizer(sample, truncation=True, padding="max_length", max_length=self.max_length)
        return {key: torch.tensor(values) for key, values in tokens.items()}

    augmented = plain

    def finished(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the batch as it is."""
        return batch

    def example(self) -> dict[str, Tensor]:
        """Return zeros [1, max_length] by keyword, with a mask of ones: a network may fail where all is masked."""
        return {
            key: (torch.ones_like if key == "attention_mask" else torch.zeros_like)(values)[None]
            for key, values in self.plain("").items()
        }
