"""Keys of weights that have a price, such as their multiply-adds: value per price, or value less price."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from gpmt.core.keys.keys import CHUNK, flat_chunks
from gpmt.core.missing_data import check_has_data

Ranking = Callable[[Tensor], Tensor]


def per_price(price: float) -> Ranking:
    """Rank by value / price; what is free comes first.

    >>> per_price(2.0)(torch.tensor([3.0])), per_price(0.0)(torch.tensor([3.0]))
    (tensor([1.5000]), tensor([inf]))
    """
    return lambda values: values / price if price else torch.full_like(values, torch.inf)


def less_price(price: float) -> Ranking:
    """Rank by value − price.

    >>> less_price(2.0)(torch.tensor([3.0]))
    tensor([1.])
    """
    return lambda values: values - price


class PricedKeys:
    """The keys of a ranking of one tensor's values, float64, computed chunk by chunk; their format is `SCORE64`.

    Args:
        name: the block.
        values: weights or scores of any shape.
        ranking: from values to what ranks them, such as `per_price(36)`.
        magnitudes: rank the magnitudes of the values.

    Raises `WeightsError` for values without data.
    """

    def __init__(self, name: str, values: Tensor, ranking: Ranking, *, magnitudes: bool) -> None:
        check_has_data({name: values})
        self.name, self.numel, self.device = name, values.numel(), values.device
        self._values, self._ranking, self._magnitudes = values.detach(), ranking, magnitudes

    def chunks(self) -> Iterator[Tensor]:
        """Yield float bits in flat order: int64, 1-D."""
        for chunk in flat_chunks(self._values, CHUNK // 4):
            wide = chunk.to(torch.float64)
            yield self._ranking(wide.abs() if self._magnitudes else wide).view(torch.int64)
