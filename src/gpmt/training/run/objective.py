"""The loss that training minimises: cross-entropy, and the distance to a teacher where there is one."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpmt.training.data.source import Inputs
from gpmt.training.models import logits


@dataclass(frozen=True)
class Objective:
    """Cross-entropy with label smoothing, of which `distill` is replaced by the distance to a teacher.

    The distance is the Kullback-Leibler divergence from the teacher's outputs to the network's, both divided
    by `temperature` before the softmax, times its square, so that gradients keep their size (Hinton et al.
    2015, arXiv 1503.02531, section 2).
    """

    label_smoothing: float = 0.0
    teacher: nn.Module | None = None
    distill: float = 0.0
    temperature: float = 2.0

    def __call__(self, outputs: Tensor, inputs: Inputs, labels: Tensor) -> Tensor:
        """Return the mean loss of `outputs` [b, classes] for `inputs` and their `labels` [b]."""
        loss = F.cross_entropy(outputs, labels, label_smoothing=self.label_smoothing)
        if self.teacher is None or not self.distill:
            return loss
        with torch.no_grad():
            target = logits(self.teacher, inputs)
        distance = F.kl_div(
            F.log_softmax(outputs / self.temperature, dim=1),
            F.log_softmax(target / self.temperature, dim=1),
            reduction="batchmean",
            log_target=True,
        )
        return (1 - self.distill) * loss + self.distill * self.temperature**2 * distance
