import torch

from gpmt.core.keys.keys import SCORE64
from gpmt.core.keys.priced_keys import PricedKeys, less_price, per_price
from gpmt.core.selection.select import select


def values(source):
    return torch.cat([chunk.view(torch.float64) for chunk in source.chunks()])


def test_values_per_price_and_less_price_in_float64_for_any_strides():
    weight = torch.tensor([[3.0, -1.0], [0.0, 2.0]]).T
    assert values(PricedKeys("w", weight, per_price(2.0), magnitudes=True)).tolist() == [1.5, 0.0, 0.5, 1.0]
    assert values(PricedKeys("w", weight, less_price(1.0), magnitudes=False)).tolist() == [
        2.0,
        -1.0,
        -2.0,
        1.0,
    ]
    assert values(PricedKeys("w", weight, per_price(0.0), magnitudes=True)).isinf().all()


def test_they_rank_as_scores():
    sources = [
        PricedKeys("a", torch.tensor([5.0, 1.0]), less_price(3.0), magnitudes=True),
        PricedKeys("b", torch.tensor([-2.5]), less_price(0.0), magnitudes=True),
    ]
    [selection] = select(sources, SCORE64, totals=[2], floors=[0, 0])
    assert [cut.kept for cut in selection.cuts] == [1, 1]
