"""Tensors that have a shape but no data: those on the meta device, where offloaded weights are too."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from gpmt.errors import GpmtError, WeightsError


def check_has_data(tensors: Mapping[str, Tensor], error: type[GpmtError] = WeightsError) -> None:
    """Raise `error`, naming the first of `tensors` that has no data.

    >>> import torch
    >>> check_has_data({"fc.weight": torch.ones(2, 2)})
    """
    for name, tensor in tensors.items():
        if tensor.is_meta:
            raise error(
                f"{name} has no data (it is on the meta device); load its weights, or end their offloading, first"
            )
