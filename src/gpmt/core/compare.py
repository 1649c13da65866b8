"""How two sets of weights differ, tensor by tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

CHUNK = 1 << 20
"""Values compared at a time, so that the memory for it does not grow with the tensor."""


@dataclass(frozen=True)
class Difference:
    """How one tensor differs: values changed, and zeros in the first only, in the second only, and in both.

    `largest` is the largest absolute difference; None where one of the values is NaN or infinite.
    """

    name: str
    shape: tuple[int, ...]
    numel: int
    changed: int
    largest: float | None
    zeros_only_a: int
    zeros_only_b: int
    zeros_both: int


@dataclass(frozen=True)
class Comparison:
    """The differences between two sets of tensors; `unlike` holds the shapes or types that do, as [first, second]."""

    only_a: list[str]
    only_b: list[str]
    unlike: dict[str, tuple[str, str]]
    tensors: list[Difference]

    @property
    def equal(self) -> bool:
        """Whether names, shapes, types and values are all the same."""
        return not (self.only_a or self.only_b or self.unlike or any(row.changed for row in self.tensors))

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as plain values, ready for JSON."""
        return {"equal": self.equal, **asdict(self)}


def compare(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> Comparison:
    """Compare tensors by name. Values are compared where the shapes agree, whatever the types.

    >>> compare({"x": torch.tensor([0.0, 1.0])}, {"x": torch.tensor([0.0, 3.0])}).tensors[0].largest
    2.0
    """
    unlike, rows = {}, []
    for name in (name for name in a if name in b):
        left, right = a[name], b[name]
        described = [
            f"{list(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}" for tensor in (left, right)
        ]
        if described[0] != described[1]:
            unlike[name] = (described[0], described[1])
        if left.shape == right.shape:
            rows.append(_difference(name, left, right))
    return Comparison(
        [name for name in a if name not in b], [name for name in b if name not in a], unlike, rows
    )


def _difference(name: str, a: Tensor, b: Tensor) -> Difference:
    """Compare two tensors of one shape; −0.0 equals 0.0, and NaN equals NaN."""
    changed = only_a = only_b = both = 0
    largest: float | None = 0.0
    exact = torch.complex128 if a.is_complex() or b.is_complex() else torch.float64
    for left, right in zip(torch.split(a.reshape(-1), CHUNK), torch.split(b.reshape(-1), CHUNK), strict=True):
        zero_a, zero_b = left == 0, right == 0
        only_a += int((zero_a & ~zero_b).sum())
        only_b += int((zero_b & ~zero_a).sum())
        both += int((zero_a & zero_b).sum())
        differs = (left != right) & ~(left.isnan() & right.isnan())
        if count := int(differs.sum()):
            changed += count
            apart = (left[differs].to(exact) - right[differs].to(exact)).abs().max().item()
            largest = max(largest, apart) if largest is not None and apart < float("inf") else None
    return Difference(name, tuple(a.shape), a.numel(), changed, largest, only_a, only_b, both)
