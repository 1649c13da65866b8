import torch

from gpmt.core.keys import SCORE64
from gpmt.core.priced_keys import LessPrice, PerPrice
from gpmt.core.select import select


def values(source):
    return torch.cat([chunk.view(torch.float64) for chunk in source.chunks()])


def test_values_per_price_and_less_price_in_float64_for_any_strides():
    weight = torch.tensor([[3.0, -1.0], [0.0, 2.0]]).T
    assert values(PerPrice("w", weight, 2.0, magnitudes=True)).tolist() == [1.5, 0.0, 0.5, 1.0]
    assert values(LessPrice("w", weight, 1.0, magnitudes=False)).tolist() == [2.0, -1.0, -2.0, 1.0]
    assert values(PerPrice("w", weight, 0.0, magnitudes=True)).isinf().all()


def test_they_rank_as_scores():
    sources = [
        LessPrice("a", torch.tensor([5.0, 1.0]), 3.0, magnitudes=True),
        LessPrice("b", torch.tensor([-2.5]), 0.0, magnitudes=True),
    ]
    [selection] = select(sources, SCORE64, totals=[2], floors=[0, 0])
    assert [cut.kept for cut in selection.cuts] == [1, 1]
