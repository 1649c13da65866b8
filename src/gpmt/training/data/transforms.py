"""How a sample becomes an input: the published augmentation of images, and tokens of texts."""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gpmt.errors import DataError
from gpmt.training.data.source import Inputs

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
INTERPOLATIONS = ("bilinear", "bicubic", "nearest")


class SampleTransform(Protocol):
    """How a sample becomes an input of the network."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input without the batch."""

    def evaluation_input(self, sample: Any) -> Inputs:
        """Return the input for evaluation, on the CPU and without a batch dimension."""

    def training_input(self, sample: Any) -> Inputs:
        """Return the augmented input; what is random is drawn from PyTorch's global generator."""

    def finish_batch(self, batch: Any) -> Inputs:
        """Turn a batch of inputs, by now on the device, into what the network takes."""

    def example(self) -> Inputs:
        """Return one input of zeros with a batch dimension of 1."""


def decode_image(source: Path | bytes, name: str) -> Image.Image:
    """Decode an image file, or its bytes, to RGB; raise DataError with its `name` where it is damaged.

    The orientation in EXIF is ignored, as torchvision and the published training do.
    """
    try:
        with Image.open(BytesIO(source) if isinstance(source, bytes) else source) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{name} cannot be read as an image ({error}); replace or remove the file") from error


@lru_cache(maxsize=64)
def constants(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Return numbers as float32 on a device, copied there once: a copy makes the program wait for the device."""
    return torch.tensor(values, dtype=torch.float32, device=device)


def normalised(pixels: Tensor, *, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Turn bytes [b, h, w, c] into floats [b, c, h, w], in the channels-last format.

    The bytes are scaled to [0, 1] first, then normalised with `mean` and `std` per channel.

    >>> normalised(torch.tensor([[[[0], [255]]]], dtype=torch.uint8), mean=(0.5,), std=(0.25,)).tolist()
    [[[[-2.0, 2.0]]]]
    """
    means, stds = constants(mean, pixels.device), constants(std, pixels.device)
    return (pixels * (1 / (255 * stds)) - means / stds).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class ImageTransform:
    """Square images of `size` pixels; the augmentation is the one ImageNet results are published with.

    For training a part of 8 to 100 % of the image, of aspect 3:4 to 4:3, is scaled to `size` and mirrored with
    probability one half. For evaluation the shorter side is scaled to `resize` and the centre is cropped.
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
    def _pipelines(self) -> tuple[Any, Any]:
        from torchvision.transforms import InterpolationMode, v2

        mode = InterpolationMode(self.interpolation)
        crop = v2.RandomResizedCrop(self.size, interpolation=mode, antialias=True)
        resize = v2.Resize(self.resize, interpolation=mode, antialias=True)
        return v2.Compose([resize, v2.CenterCrop(self.size)]), v2.Compose([crop, v2.RandomHorizontalFlip()])

    def evaluation_input(self, sample: Image.Image) -> Tensor:
        """Return the centre crop, uint8 [size, size, 3]."""
        return torch.from_numpy(np.array(self._pipelines[0](sample)))

    def training_input(self, sample: Image.Image) -> Tensor:
        """Return a random crop, mirrored or not, uint8 [size, size, 3]."""
        return torch.from_numpy(np.array(self._pipelines[1](sample)))

    def finish_batch(self, batch: Tensor) -> Tensor:
        """Return float32 [b, 3, size, size], normalised, which is done here since bytes are quicker to move."""
        return normalised(batch, mean=self.mean, std=self.std)

    def example(self) -> Tensor:
        """Return zeros [1, 3, size, size]."""
        return torch.zeros(1, *self.input_shape, device="cpu")


@dataclass(frozen=True)
class TextTransform:
    """Texts as tokens, truncated or padded to `max_length`, in the keywords the tokenizer gives (int64)."""

    tokenizer: Any
    max_length: int

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Number of tokens."""
        return (self.max_length,)

    def evaluation_input(self, sample: str) -> dict[str, Tensor]:
        """Return input_ids, attention_mask and, for networks that take them, token_type_ids, each [max_length]."""
        tokens = self.tokenizer(sample, truncation=True, padding="max_length", max_length=self.max_length)
        return {key: torch.tensor(values, device="cpu") for key, values in tokens.items()}

    training_input = evaluation_input

    def finish_batch(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the batch as it is."""
        return batch

    def example(self) -> dict[str, Tensor]:
        """Return zeros [1, max_length] by keyword, with a mask of ones: a network may fail where all is masked."""
        return {
            key: (torch.ones_like if key == "attention_mask" else torch.zeros_like)(values)[None]
            for key, values in self.evaluation_input("").items()
        }
