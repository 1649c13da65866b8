import pytest
import torch

import gpmt
from gpmt.core.scope.scope import find_scope
from gpmt.errors import CalibrationError
from tests.calibration.networks import make, samples_of, slow_gradients


@pytest.mark.parametrize("name", ["conv", "double", "tied", "attention", "mixtral"])
def test_half_the_squared_weight_times_the_mean_square_of_each_sample(name: str) -> None:
    model, batches = make(name)
    scores = gpmt.scores.fisher(model, batches)
    gradients = slow_gradients(model, samples_of(batches))
    weights = find_scope(model).tensors
    assert list(scores) == list(weights)
    for tensor, weight in weights.items():
        wide = weight.detach().to(scores[tensor].dtype)
        expected = torch.zeros_like(wide)
        for gradient in gradients[tensor]:
            expected += wide**2 * gradient**2 / 2 / len(gradients[tensor])
        torch.testing.assert_close(scores[tensor], expected, rtol=1e-4, atol=1e-3 * float(expected.max()))
        assert scores[tensor].any()


def test_an_uneven_batch_is_refused() -> None:
    layer = torch.nn.Linear(3, 2)
    with pytest.raises(CalibrationError, match="cannot be divided into samples"):
        gpmt.scores.fisher(layer, [(torch.ones(2, 3), torch.zeros(3, dtype=torch.int64))])
