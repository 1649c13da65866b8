"""Where buffers of activations are in one block of memory: those that are never in use together overlap."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from gpmt.runtime.lowering.steps import NativeStep, Step

Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class Lifetime:
    """A piece of memory that is in use from one moment to another.

    Attributes:
        first, last: the moments, both included.
        size: bytes.
    """

    first: int
    last: int
    size: int

    def meets(self, other: Lifetime) -> bool:
        """Whether both are in use at some moment."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True)
class Packing(Generic[Name]):
    """Where pieces of memory are.

    Attributes:
        offsets: of each piece, in bytes, by its name.
        size: bytes of all together.
    """

    offsets: dict[Name, int]
    size: int


def uses(steps: Sequence[Step]) -> dict[str, tuple[int, int]]:
    """Return the first and the last step that uses each buffer, by the buffer's name; the first one writes it."""
    found: dict[str, tuple[int, int]] = {}
    for index, step in enumerate(steps):
        for name in step.buffers.values() if isinstance(step, NativeStep) else ():
            first, _ = found.get(name, (index, index))
            found[name] = first, index
    return found


def pack(lifetimes: Mapping[Name, Lifetime]) -> Packing[Name]:
    """Give each piece of memory a place; those in use at the same time do not overlap.

    The largest come first, of equal ones those that are in use first. Each takes the smallest gap that it fits,
    between those in use at the same time that have a place already.

    >>> pack({"a": Lifetime(0, 1, 64), "b": Lifetime(1, 2, 128), "c": Lifetime(2, 3, 64)}).offsets
    {'b': 0, 'a': 128, 'c': 128}

    Args:
        lifetimes: by name, with sizes that keep places aligned.
    """
    offsets: dict[Name, int] = {}
    for name in sorted(lifetimes, key=lambda name: (-lifetimes[name].size, lifetimes[name].first)):
        own = lifetimes[name]
        taken = sorted((offsets[o], lifetimes[o].size) for o in offsets if lifetimes[o].meets(own))
        offsets[name] = _best_gap(taken, own.size)
    size = max((offsets[name] + own.size for name, own in lifetimes.items()), default=0)
    return Packing(offsets, size)


def _best_gap(taken: Sequence[tuple[int, int]], size: int) -> int:
    """Return the offset of the smallest gap of at least `size` bytes; `taken` is offsets and sizes in order."""
    end, best = 0, None
    for offset, length in taken:
        if size <= offset - end and (best is None or offset - end < best[0]):
            best = offset - end, end
        end = max(end, offset + length)
    return end if best is None else best[1]
