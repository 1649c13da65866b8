"""Accuracy and loss, summed over batches and processes."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor


@dataclass(frozen=True)
class Score:
    """Mean cross-entropy and accuracy over a split; `top1` and `top5` are fractions of the images.

    `top5` is None for fewer than six classes, where it would always be 1.
    """

    loss: float
    top1: float
    top5: float | None
    images: int

    def __str__(self) -> str:
        top5 = "" if self.top5 is None else f", top-5 {self.top5:.2%}"
        return f"top-1 {self.top1:.2%}{top5}, loss {self.loss:.4f}"


class Meter:
    """Sums of loss and correct predictions, kept on the device that trains, so that no step waits for them."""

    def __init__(self, device: torch.device, *, num_classes: int) -> None:
        self._has_top5 = num_classes > 5
        dtype = torch.float32 if device.type == "mps" else torch.float64
        self._sums = torch.zeros(3, dtype=dtype, device=device)  # loss, top-1 hits, top-5 hits
        self._images = 0

    @torch.no_grad()
    def add(self, logits: Tensor, labels: Tensor, loss: Tensor | None = None) -> None:
        """Count a batch of logits [b, classes] and labels [b]; `loss` is its mean, else cross-entropy."""
        if loss is None:
            loss = F.cross_entropy(logits, labels)
        best = logits.topk(5 if self._has_top5 else 1, dim=1).indices
        hits = best == labels[:, None]
        batch = (loss * len(labels), hits[:, 0].sum(), hits.sum())
        self._sums += torch.stack([value.to(self._sums) for value in batch])
        self._images += len(labels)

    def score(self, accelerator: Accelerator) -> Score:
        """Return the means over what all processes counted."""
        sums = torch.cat([self._sums, self._sums.new_full((1,), self._images)])
        loss, top1, top5, images = accelerator.reduce(sums, "sum").tolist()
        return Score(loss / images, top1 / images, top5 / images if self._has_top5 else None, int(images))
