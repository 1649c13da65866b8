import pytest
from torch import nn

from gpmt.core.layers.layers import output_dim


@pytest.mark.parametrize(
    "layer", [nn.Linear(2, 5), nn.Conv1d(2, 5, 1), nn.Conv2d(2, 5, 1), nn.ConvTranspose2d(2, 5, 1)]
)
def test_the_dimension_of_the_outputs(layer):
    assert layer.weight.shape[output_dim(type(layer).__name__)] == 5


def test_conv1d_of_transformers_has_its_outputs_last():
    assert output_dim("Conv1D") == 1
