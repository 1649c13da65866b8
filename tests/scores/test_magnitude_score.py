import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

import gpmt
from gpmt.core.scope.scope import find_scope
from gpmt.errors import ScoresError, WeightsError
from gpmt.scores.magnitude_score import _factor
from tests.calibration.networks import CASES, make

FACTORS: dict[str, Callable[[Tensor], float]] = {
    "none": lambda weight: 1.0,
    "norm": lambda weight: 1 / math.sqrt(math.fsum(w * w for w in weight.flatten().tolist())),
    "dimensions": lambda weight: math.sqrt(sum(weight.shape)),
}


@pytest.mark.parametrize("scale", FACTORS)
@pytest.mark.parametrize("name", CASES)
def test_every_weight_times_a_number_of_its_tensor(name: str, scale: str) -> None:
    model, _ = make(name)
    scores = gpmt.scores.magnitude(model, scale=scale)
    weights = find_scope(model).tensors
    assert list(scores) == list(weights)
    for tensor, weight in weights.items():
        wide = weight.detach().to(torch.float64 if name == "double" else torch.float32)
        expected = torch.tensor(
            [abs(w) * FACTORS[scale](wide) for w in wide.flatten().tolist()], dtype=wide.dtype
        )
        torch.testing.assert_close(scores[tensor].flatten(), expected, rtol=1e-6, atol=0)
        assert not scores[tensor].requires_grad


def test_the_weights_stay() -> None:
    layer = nn.Linear(3, 2)
    before = layer.weight.detach().clone()
    gpmt.scores.magnitude(layer, scale="norm")
    assert torch.equal(layer.weight, before)


def test_memory_formats_and_threads_do_not_change_a_bit() -> None:
    before = torch.get_num_threads()
    for seed in range(5):
        weight = torch.randn(300, 100, 3, 3, generator=torch.Generator().manual_seed(seed)) * 7**seed
        last = weight.contiguous(memory_format=torch.channels_last)
        try:
            torch.set_num_threads(1)
            expected = _factor(weight, "norm")
            torch.set_num_threads(3)
            assert _factor(weight, "norm") == _factor(last, "norm") == expected
        finally:
            torch.set_num_threads(before)


def test_a_tensor_of_zeros_scores_zero() -> None:
    assert not gpmt.scores.magnitude({"a.weight": torch.zeros(2, 2)}, scale="norm")["a.weight"].any()


def test_reparametrised_weights_are_scored_as_they_are_used() -> None:
    layer = weight_norm(nn.Linear(3, 2))
    layer.parametrizations.weight.original0.data.mul_(3)
    scores = gpmt.scores.magnitude(layer)["parametrizations.weight.original1"]
    torch.testing.assert_close(scores, layer.weight.detach().abs())


def test_what_is_wrong_is_told() -> None:
    with pytest.raises(ScoresError, match="scale is 'l1', but must be one of"):
        gpmt.scores.magnitude(nn.Linear(2, 2), scale="l1")
    with pytest.raises(WeightsError, match="weight has no data"):
        gpmt.scores.magnitude(nn.Linear(2, 2, device="meta"))
