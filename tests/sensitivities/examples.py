"""A sensitivity made by hand, and the tensors it could be of."""

from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from gpmt.sensitivities.result import BlockCurve, Cell, Measured, Sensitivity

HALF, MOST = Fraction(1, 2), Fraction(9, 10)


def weights() -> dict[str, Tensor]:
    return {"a.weight": torch.arange(1.0, 21).view(4, 5), "b.weight": torch.arange(1.0, 41).view(8, 5)}


def example(**changes: Any) -> Sensitivity:
    """Of 20 weights in a, which cost much, and 40 in b, which cost little."""
    curves = (
        BlockCurve("a.weight", 20, (Cell(1.5, 0.5, HALF, 10), Cell(4.0, 0.25, MOST, 2))),
        BlockCurve("b.weight", 40, (Cell(0.75, 0.875, HALF, 20), Cell(1.0, 0.75, MOST, 4))),
    )
    values: dict[str, Any] = {
        "dense": Measured(0.5, 0.9),
        "curves": curves,
        "blocks": ("a.weight", "b.weight"),
        "sparsities": (HALF, MOST),
        "numel": 60,
        "samples": 40,
        "recalibrated": True,
        "network": "0123456789abcdef" * 4,
        "settings": {"data": "digits", "batch size": 64, "network": None},
    }
    return Sensitivity(**(values | changes))
