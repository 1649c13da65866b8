"""Where a network multiplies its weights with inputs: every matrix product and convolution that PyTorch computes.

Operators are watched, not modules, so that it does not matter how a layer is written: `Linear`, attention, the loop
over the experts of a stack and a product in the user's own code all end in the same few. A weight is recognised by
its memory, of which the operator gets a view.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gpmt.calibration.inputs import Inputs, Vectors, Windows
from gpmt.torch_private import OpOverload, TorchDispatchMode, schema, storage_id


@dataclass(frozen=True)
class Part:
    """The weights of one application: a view of a tensor, [blocks, outputs, inputs of one output, ...].

    A block is a group of a convolution; otherwise there is one.

    Attributes:
        offset: its first element, counted from the tensor's first, in memory.
        shape, stride: of the view.
    """

    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def of(self, tensor: Tensor) -> Tensor:
        """Return this part of a tensor that lies in memory as the weights do, such as one of `laid_out_like`."""
        offset = tensor.storage_offset() + self.offset
        return tensor.detach().as_strided(self.shape, self.stride, offset)


def laid_out_like(weights: Tensor, dtype: torch.dtype) -> Tensor:
    """Return zeros of the shape, and with the strides, of a tensor of weights."""
    return torch.empty_strided(weights.shape, weights.stride(), dtype=dtype, device=weights.device).zero_()


Seen = Callable[[str, Part, Inputs], None]
"""Called with the name of a tensor, the part of it, and what that is about to be multiplied with."""


class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Inside this block, `seen` is called before every application of one of the tensors."""

    def __init__(self, tensors: Mapping[str, Tensor], seen: Seen) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._seen = seen
        self._held: dict[int, list[tuple[int, int, str, Tensor]]] = {}
        for name, tensor in tensors.items():
            start = int(tensor.storage_offset())
            reach = sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True))
            end = start + 1 + reach
            self._held.setdefault(storage_id(tensor), []).append((start, end, name, tensor))

    def __torch_dispatch__(
        self,
        func: OpOverload,
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        find = _APPLICATIONS.get(schema(func).name)
        if find is not None:
            for weights, inputs in find(self._holds, *args, **kwargs):
                self._tell(weights, inputs)
        elif torch.is_inference_mode_enabled():  # where composite operators such as linear stay whole
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        return func(*args, **kwargs)

    def _holds(self, operand: Tensor) -> bool:
        return self._find(operand) is not None

    def _find(self, operand: Tensor) -> tuple[str, int] | None:
        """Return the name of the tensor that an operand is a view of, and where it begins in it."""
        for start, end, name, tensor in self._held.get(storage_id(operand), ()):
            if start <= operand.storage_offset() < end and operand.dtype == tensor.dtype:
                return name, int(operand.storage_offset()) - start
        return None

    def _tell(self, weights: Tensor, inputs: Inputs) -> None:
        found = self._find(weights)
        assert found is not None
        name, offset = found
        self._seen(name, Part(offset, tuple(weights.shape), weights.stride()), inputs)


Holds = Callable[[Tensor], bool]
Applications = Iterator[tuple[Tensor, Inputs]]


def _product(holds: Holds, left: Tensor, right: Tensor, **_: Any) -> Applications:
    """[n, k] times [k, m]."""
    if holds(right):
        yield right.t()[None], Vectors(left[None])
    if holds(left):
        yield left[None], Vectors(right.t()[None])


def _matrix_vector(holds: Holds, matrix: Tensor, vector: Tensor, **_: Any) -> Applications:
    if holds(matrix):
        yield matrix[None], Vectors(vector[None, None])


def _products(holds: Holds, left: Tensor, right: Tensor, **_: Any) -> Applications:
    """[b, n, k] times [b, k, m]."""
    if holds(right):
        yield from _each(right.transpose(1, 2), left)
    if holds(left):
        yield from _each(left, right.transpose(1, 2))


def _each(weights: Tensor, vectors: Tensor) -> Applications:
    """[b, outputs, inputs] with [b, positions, inputs]; weights that are one matrix expanded are applied once."""
    if len(weights) > 1 and weights.stride(0) == 0:
        yield weights[:1], Vectors(vectors.flatten(0, 1)[None])
        return
    for one, its in zip(torch.split(weights, 1), torch.split(vectors, 1), strict=True):
        yield one, Vectors(its)


def _added(find: Callable[[Holds, Tensor, Tensor], Applications]) -> Callable[..., Applications]:
    """For operators whose first argument is added to the product."""

    def with_bias(holds: Holds, _bias: Tensor, left: Tensor, right: Tensor, **_scales: Any) -> Applications:
        return find(holds, left, right)

    return with_bias


def _grouped(
    holds: Holds, left: Tensor, right: Tensor, offs: Tensor | None = None, *_: Any, **__: Any
) -> Applications:
    """[s, k] times [e, k, m]: the rows of `left` up to the first of the ends `offs` with the first matrix, ..."""
    if offs is None or left.ndim != 2 or right.ndim != 3 or not holds(right):
        return
    start = 0
    for index, end in enumerate(offs.tolist()):
        if end > start:
            yield right[index].t()[None], Vectors(left[None, start:end])
        start = end


def _convolution(
    holds: Holds,
    image: Tensor,
    weight: Tensor,
    _bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    output_padding: list[int],
    groups: int,
) -> Applications:
    if not holds(weight):
        return
    dims = weight.ndim - 2
    # One number may stand for all dimensions.
    steps, pads, gaps, extra = (
        tuple(sizes) * (dims if len(sizes) == 1 else 1)
        for sizes in (stride, padding, dilation, output_padding)
    )
    grouped = torch.unflatten(weight, 0, (groups, -1))
    if transposed:
        grouped = grouped.transpose(1, 2)
    yield grouped, Windows(image, tuple(weight.shape[2:]), steps, pads, gaps, groups, transposed, extra)


_APPLICATIONS: dict[str, Callable[..., Applications]] = {
    "aten::mm": _product,
    "aten::addmm": _added(_product),
    "aten::mv": _matrix_vector,
    "aten::addmv": _added(_matrix_vector),
    "aten::bmm": _products,
    "aten::baddbmm": _added(_products),
    "aten::convolution": _convolution,
    # Stacks of experts in transformers; its own operator stands in where PyTorch has none.
    "aten::_grouped_mm": _grouped,
    "transformers::grouped_mm_fallback": _grouped,
}
"""How operators apply weights, by their names."""
