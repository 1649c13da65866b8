import pytest
import torch
from torch import nn

from gpmt.training.models import example, logits
from gpmt.training.models.call import check_fit


def test_the_modes_of_single_layers_survive_the_trial():
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2), nn.Dropout())
    model[2].eval()
    check_fit(model, torch.zeros(1, 4), 2)
    with pytest.raises(ValueError, match=r"^it does not run on an input of shape 5 \("):
        check_fit(model, torch.zeros(1, 5), 2)
    with pytest.raises(ValueError, match=r"^for two inputs it returns shape 2x2, but 3 classes need 2x3$"):
        check_fit(model, torch.zeros(1, 4), 3)
    assert [module.training for module in model.modules()] == [True, True, True, False]


def test_logits_are_found_in_what_a_network_returns():
    class Answer(nn.Module):
        def forward(self, x: torch.Tensor, factor: float = 1.0) -> torch.Tensor:
            return factor * x

    x = torch.ones(2, 3)
    assert torch.equal(logits(Answer(), x), x)
    assert torch.equal(logits(Answer(), {"x": x, "factor": torch.tensor(2.0)}), 2 * x)
    assert example(Answer(), (3, 4)).shape == (1, 3, 4)
