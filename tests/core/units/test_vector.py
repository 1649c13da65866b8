import torch

from gpmt.core.layers.axes import Axes
from gpmt.core.units.vector import Vector


def test_four_inputs_of_one_output_and_the_rest():
    matrix = torch.arange(12.0).view(2, 6)
    assert Vector().count(Axes(), (2, 6)) == 4
    assert Vector().values("a", Axes(), matrix).tolist() == [0 + 1 + 2 + 3, 4 + 5, 6 + 7 + 8 + 9, 10 + 11]
    mask = Vector().spread(torch.tensor([True, False, False, True]), Axes(), (2, 6))
    assert mask.int().tolist() == [[1, 1, 1, 1, 0, 0], [0, 0, 0, 0, 1, 1]]


def test_taps_are_apart():
    filters = torch.arange(16.0).view(1, 8, 1, 2)
    assert Vector().values("a", Axes(), filters).tolist() == [0 + 2 + 4 + 6, 1 + 3 + 5 + 7, 36 + 8, 40 + 8]


def test_of_fewer_than_four_inputs_all_are_one():
    assert Vector().count(Axes(), (5, 3, 2, 2)) == 5 * 4
    assert Vector().count(Axes(), (5, 1)) == 5
