import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpmt.training.run.objective import Objective

OUTPUTS = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
INPUTS = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
LABELS = torch.tensor([0, 3, 1, 1, 2, 0])


class Teacher(nn.Module):
    """Returns its inputs as logits, and counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(()))
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.factor * x


def smoothed_cross_entropy(outputs: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    target = F.one_hot(labels, outputs.shape[1]) * (1 - smoothing) + smoothing / outputs.shape[1]
    return -(target * outputs.log_softmax(1)).sum(1).mean()


def divergence(outputs: Tensor, target: Tensor, temperature: float) -> Tensor:
    """The mean Kullback-Leibler divergence of the softened outputs, times the squared temperature."""
    p, q = ((values / temperature).softmax(1) for values in (target, outputs))
    return temperature**2 * (p * (p / q).log()).sum(1).mean()


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_without_a_teacher_it_is_cross_entropy_with_label_smoothing(smoothing):
    loss = Objective(label_smoothing=smoothing)(OUTPUTS, INPUTS, LABELS)
    torch.testing.assert_close(loss, smoothed_cross_entropy(OUTPUTS, LABELS, smoothing))


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
@pytest.mark.parametrize("distill", [0.3, 1.0])
def test_a_part_is_replaced_by_the_distance_to_the_teacher(distill, temperature):
    objective = Objective(0.1, Teacher(), distill, temperature)
    own, distance = smoothed_cross_entropy(OUTPUTS, LABELS, 0.1), divergence(OUTPUTS, INPUTS, temperature)
    torch.testing.assert_close(objective(OUTPUTS, INPUTS, LABELS), (1 - distill) * own + distill * distance)


def test_the_distance_to_equal_outputs_is_zero():
    loss = Objective(teacher=Teacher(), distill=1.0)(INPUTS, INPUTS, LABELS)
    assert abs(float(loss)) < 1e-6


def test_the_teacher_gets_no_gradient_and_is_not_asked_in_vain():
    teacher, outputs = Teacher(), OUTPUTS.clone().requires_grad_()
    Objective(teacher=teacher, distill=0.5)(outputs, {"x": INPUTS}, LABELS).backward()
    assert outputs.grad is not None
    assert teacher.factor.grad is None
    assert teacher.calls == 1
    Objective(teacher=teacher, distill=0.0)(outputs, INPUTS, LABELS)
    assert teacher.calls == 1
