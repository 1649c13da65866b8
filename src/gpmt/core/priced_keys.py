"""Keys of weights that have a price, such as their multiply-adds: value per price, or value less price."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from gpmt.core.keys import CHUNK, flat_chunks
from gpmt.core.missing_data import check_has_data


class _PricedKeys:
    """Values of one tensor, computed in float64 chunk by chunk; the key format is `SCORE64`."""

    def __init__(self, name: str, values: Tensor, price: float, *, magnitudes: bool) -> None:
        check_has_data({name: values})
        self.name, self.numel, self.device = name, values.numel(), values.device
        self._values, self._price, self._magnitudes = values.detach(), price, magnitudes

    def chunks(self) -> Iterator[Tensor]:
        """Yield float bits in flat order."""
        for chunk in flat_chunks(self._values, CHUNK // 4):
            wide = chunk.to(torch.float64)
            yield self._ranked(wide.abs() if self._magnitudes else wide).view(torch.int64)

    def _ranked(self, values: Tensor) -> Tensor:
        raise NotImplementedError


class PerPrice(_PricedKeys):
    """Ranks by value / price; what is free comes first."""

    def _ranked(self, values: Tensor) -> Tensor:
        return values / self._price if self._price else torch.full_like(values, torch.inf)


class LessPrice(_PricedKeys):
    """Ranks by value − price."""

    def _ranked(self, values: Tensor) -> Tensor:
        return values - self._price
