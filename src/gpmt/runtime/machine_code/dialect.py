"""What differs between the processors that straight-line code is written for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from gpmt.runtime.ir.activation import Activation
from gpmt.runtime.machine_code.instruction_stream import Groups, Shape, Stream


@dataclass(frozen=True)
class Ends:
    """What is done with the filters of a layer before and behind its multiply-adds.

    Attributes:
        output_stride, residual_stride: bytes from a filter's plane to the next; None without a residual.
        activation: none or a clamp.
    """

    output_stride: int
    residual_stride: int | None
    activation: Activation


class Dialect(ABC):
    """Straight-line code of one kind of processor.

    Attributes:
        lanes: pixels of a vector.
        unit: weights that are loaded at once: the constants of a block are a multiple of it, padded.
    """

    lanes: ClassVar[int]
    unit: ClassVar[int]

    @abstractmethod
    def shapes(self, *, crossing: bool) -> tuple[Shape, ...]:
        """Return the shapes that are worth trying.

        Args:
            crossing: whether taps read inputs at other alignments than the outputs have.
        """

    @abstractmethod
    def mask(self, mask: NDArray[np.int32]) -> NDArray[np.generic]:
        """Return the mask that code reads, of the one of `Planes.mask`."""

    @abstractmethod
    def mask_bytes(self, shape: Shape) -> int:
        """Return the bytes of the mask that a turn reads."""

    @abstractmethod
    def stream(self, groups: Groups, offsets: NDArray[np.int64], shape: Shape) -> Stream:
        """Return the instructions for a layer whose taps read at offsets [taps], in bytes."""

    @abstractmethod
    def entry(self) -> bytes:
        """Return what comes before the first turn."""

    @abstractmethod
    def head(self, members: range, most: int, ends: Ends, shape: Shape, *, first: bool) -> bytes:
        """Return what comes before the multiply-adds of a turn: accumulators begin with biases or earlier sums.

        Args:
            members: the filters of the group.
            most: filters of the largest group.
            ends: of the layer.
            shape: of the code.
            first: whether this is the first pass.
        """

    @abstractmethod
    def foot(
        self, members: range, most: int, ends: Ends, shape: Shape, *, last: bool, prefetches: int
    ) -> bytes:
        """Return what comes after the multiply-adds of a turn: residual, activation, mask, stores, next addresses.

        Args:
            members, most, ends, shape: as in `head`.
            last: whether this is the last pass.
            prefetches: lines that the turn has prefetched.
        """

    @abstractmethod
    def end(self, back: int) -> bytes:
        """Return the jump to the head, `back` bytes before, and the return; it is always as long."""

    def turn_bytes(self, shape: Shape) -> int:
        """Return the bytes of pixels that a turn computes of each filter."""
        return 4 * self.lanes * shape.vectors
