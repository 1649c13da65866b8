import torch

from gpmt.core.layers.axes import Axes
from gpmt.core.units.weight import Weight


def test_weights_are_units_as_they_are():
    block, axes, unit = torch.tensor([[1.0, 0.0], [float("nan"), -0.0]]), Axes(told=False), Weight()
    unit.check("a", axes, (2, 2))
    assert (unit.plural, unit.count(axes, (2, 2)), unit.live(axes, block)) == ("weights", 4, 2)
    assert unit.values("a", axes, block) is block
    assert unit.spread(torch.tensor([True, False, True, True]), axes, (2, 2)).tolist()[0] == [True, False]
