import torch

from gpmt.core.layers.axes import Axes
from gpmt.core.units.row import Row


def test_a_row_is_an_output_of_any_layer():
    linear = torch.tensor([[1.0, 2.0, 0.0], [0.0, -0.0, 0.0]])
    assert Row().values("a", Axes(), linear).tolist() == [3, 0]
    assert Row().values("a", Axes(1), linear).tolist() == [1, 2, 0]
    filters = torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]]]])  # [1, 2, 1, 2]
    assert Row().values("a", Axes(), filters).tolist() == [10]
    assert Row().values("a", Axes(1), filters).tolist() == [3, 7]  # of a transposed convolution
    experts = torch.arange(12.0).view(2, 3, 2)
    assert Row().values("a", Axes(1, stacked=True), experts).tolist() == [1, 5, 9, 13, 17, 21]
    assert Row().values("a", Axes(2, stacked=True), experts).tolist() == [6, 9, 24, 27]
