"""Which tensors view the same memory: the same way, as tied ones do, or in part."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from gpmt.core.shards import local
from gpmt.errors import ScopeError
from gpmt.torch_private import storage_id


def identity(tensor: Tensor) -> Hashable:
    """Return a key that is equal for tensors that view the same memory in the same way, as tied ones do."""
    if not _has_memory(tensor):
        return id(tensor)
    storage = storage_id(local(tensor))
    return storage, tensor.storage_offset(), tuple(tensor.shape), tensor.stride(), tensor.dtype


def find_overlap(names: Sequence[str], tensors: Mapping[str, Tensor]) -> tuple[str, str] | None:
    """Return one of `names` that shares elements with another of `tensors`, and the other.

    A tensor that shares elements with itself (an expanded one) is returned twice. None where nothing overlaps.
    Tensors with one `identity` are to be in `tensors` once.

    >>> import torch
    >>> whole = torch.zeros(4, 4)
    >>> find_overlap(["w"], {"w": whole, "part": whole[:2]}), find_overlap(["a"], {"a": whole[:2], "b": whole[2:]})
    (('w', 'part'), None)
    """
    views: dict[int, list[tuple[str, Tensor]]] = {}
    for name, tensor in tensors.items():
        if _has_memory(tensor) and (part := local(tensor)).numel():
            views.setdefault(storage_id(part), []).append((name, part))
    chosen = set(names)
    for group in views.values():
        for name, tensor in group:
            if name in chosen and _overlaps_itself(tensor):
                return name, name
        arrays = [(name, _addresses(tensor)) for name, tensor in group] if len(group) > 1 else []
        arrays.sort(key=lambda pair: _extent(pair[1]))
        for index, (name, array) in enumerate(arrays):
            end = _extent(array)[1]
            for other, following in arrays[index + 1 :]:
                if _extent(following)[0] >= end:
                    break
                if (name in chosen or other in chosen) and _share_elements(array, following):
                    first, second = sorted((name, other), key=[*names, *tensors].index)
                    return first, second
    return None


def refuse_overlap(names: Sequence[str], tensors: Mapping[str, Tensor]) -> None:
    """Raise `ScopeError` where one of `names` shares elements with itself or another of `tensors`."""
    overlap = find_overlap(names, tensors)
    if overlap is None:
        return
    name, other = overlap
    if name == other:
        raise ScopeError(
            f"{name} has several positions on one element (it is expanded), so they cannot be pruned one by one; "
            "make it plain with clone(), or exclude it"
        )
    raise ScopeError(
        f"{name} and {other} view the same memory in different ways, so pruning one changes the other; copy one of "
        f"them with clone(), or exclude {'both' if other in names else 'the first'}"
    )


def _has_memory(tensor: Tensor) -> bool:
    return not is_lazy(tensor) and tensor.layout == torch.strided


class _View:
    """The addresses of a tensor's elements within its storage, as NumPy describes them; nothing is read there."""

    def __init__(self, tensor: Tensor) -> None:
        size = tensor.element_size()
        self.__array_interface__ = {
            "version": 3,
            "typestr": f"|V{size}",
            "shape": tuple(tensor.shape),
            "strides": tuple(stride * size for stride in tensor.stride()),
            "data": (_START + tensor.storage_offset() * size, True),
        }


_Array = np.ndarray[tuple[int, ...], np.dtype[np.void]]
_MAX_WORK = 1_000_000  # solutions that are tried; the exact answer may take exponential time
_START = 1 << 20
"""A stand-in for the address of a storage, which may be on a GPU, or have no data."""


def _addresses(tensor: Tensor) -> _Array:
    return np.asarray(_View(tensor))


def _extent(array: _Array) -> tuple[int, int]:
    low, high = np.lib.array_utils.byte_bounds(array)
    return int(low), int(high)


def _share_elements(a: _Array, b: _Array) -> bool:
    try:
        return np.shares_memory(a, b, max_work=_MAX_WORK)  # type: ignore[arg-type]  # NumPy's stubs name two values
    except (np.exceptions.TooHardError, OverflowError):  # strides that no network has; to refuse them is safe
        return True


def _positions(tensor: Tensor) -> int:
    """Return how many elements lie between the first and the last one, both included."""
    return 1 + sum(step * (size - 1) for step, size in zip(tensor.stride(), tensor.shape, strict=True))


def _overlaps_itself(tensor: Tensor) -> bool:
    """Whether two positions of a tensor are one element."""
    reach = 0
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size > 1 and stride <= reach:
            if tensor.numel() > _positions(tensor):  # before anything of its size is allocated
                return True
            # A rare layout; only a count tells.
            offsets = np.zeros((), np.int64)
            for step, length in zip(tensor.stride(), tensor.shape, strict=True):
                offsets = np.add.outer(offsets, np.arange(length) * step)
            return len(np.unique(offsets)) < offsets.size
        reach += stride * (size - 1)
    return False
