import torch

from gpmt.core.layers.axes import Axes
from gpmt.core.units.channel import Channel


def test_a_channel_is_an_input_of_any_layer():
    linear = torch.tensor([[1.0, 2.0, 0.0], [0.0, -0.0, 0.0]])
    assert Channel().values("a", Axes(), linear).tolist() == [1, 2, 0]
    assert Channel().values("a", Axes(1), linear).tolist() == [3, 0]
    filters = torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]]]])  # [1, 2, 1, 2]
    assert Channel().values("a", Axes(), filters).tolist() == [3, 7]
    experts = torch.arange(12.0).view(2, 3, 2)
    assert Channel().values("a", Axes(1, stacked=True), experts).tolist() == [6, 9, 24, 27]


def test_a_depthwise_convolution_has_one_input_of_each_group():
    assert Channel().count(Axes(), (32, 1, 3, 3)) == 1
