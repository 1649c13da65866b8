"""How two sets of weights differ, tensor by tensor."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
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


class Values(Protocol):
    """Values that can be read in pieces, as those in a file can, in place of a tensor."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Their shape."""

    @property
    def dtype(self) -> str:
        """Their type, as PyTorch names it."""

    def pieces(self, size: int) -> Iterator[NDArray[Any]]:
        """Yield the values in flat order, so many at a time, at least one piece."""


def compare(a: Mapping[str, Tensor | Values], b: Mapping[str, Tensor | Values]) -> Comparison:
    """Compare tensors by name. Values are compared where the shapes agree, whatever the types.

    >>> import torch
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
        if tuple(left.shape) == tuple(right.shape):
            rows.append(_difference(name, left, right))
    return Comparison(
        [name for name in a if name not in b], [name for name in b if name not in a], unlike, rows
    )


def _difference(name: str, a: Tensor | Values, b: Tensor | Values) -> Difference:
    """Compare two tensors of one shape; −0.0 equals 0.0, and NaN equals NaN."""
    changed = only_a = only_b = both = 0
    largest: float | None = 0.0
    with np.errstate(all="ignore"):
        for left, right in zip(_pieces(a), _pieces(b), strict=True):
            zero_a, zero_b = left == 0, right == 0
            only_a += int((zero_a & ~zero_b).sum())
            only_b += int((zero_b & ~zero_a).sum())
            both += int((zero_a & zero_b).sum())
            differs = (left != right) & ~(np.isnan(left) & np.isnan(right))
            if count := int(differs.sum()):
                changed += count
                exact = np.complex128 if np.iscomplexobj(left) or np.iscomplexobj(right) else np.float64
                apart = float(np.abs(left[differs].astype(exact) - right[differs].astype(exact)).max())
                largest = max(largest, apart) if largest is not None and apart < math.inf else None
    shape = tuple(a.shape)
    return Difference(name, shape, math.prod(shape), changed, largest, only_a, only_b, both)


def _pieces(tensor: Tensor | Values) -> Iterator[NDArray[Any]]:
    """Yield the values of a tensor, in the type of NumPy that holds all of them."""
    if not hasattr(tensor, "detach"):
        yield from tensor.pieces(CHUNK)
        return
    for piece in cast("Any", tensor).detach().reshape(-1).split(CHUNK):
        if piece.is_complex():
            piece = piece.cfloat() if piece.element_size() < 8 else piece
        elif piece.is_floating_point() and (piece.element_size() < 2 or "bfloat16" in str(piece.dtype)):
            piece = piece.float()
        yield piece.cpu().resolve_conj().resolve_neg().numpy()
