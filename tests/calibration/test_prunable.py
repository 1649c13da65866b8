import pytest
import torch
from torch import nn

from gpmt.calibration.prunable import prunable
from gpmt.errors import ScopeError, ScoresError, WeightsError


def test_the_network_inside_wrappers_and_its_tensors() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    network, found = prunable(nn.DataParallel(model), "0", ())
    assert network is model
    assert list(found.tensors) == ["0.weight"]
    assert found.tensors["0.weight"] is model[0].weight
    assert list(prunable(model, None, "0")[1].tensors) == ["1.weight"]


@pytest.mark.parametrize(
    ("model", "error", "text"),
    [
        (
            {"weight": torch.ones(2, 2)},
            ScoresError,
            "these scores run .* of type dict; give a module",
        ),
        (nn.ReLU(), ScopeError, "no prunable"),
        (nn.Linear(2, 2, device="meta"), WeightsError, "weight has no data"),
    ],
)
def test_what_cannot_be_scored_is_refused(model: object, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        prunable(model, None, ())
