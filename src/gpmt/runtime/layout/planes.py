"""The layout of images in memory: zero-padded planes, one for each channel.

    pixel (n, c, y, x)  =  element  origin + n · image_stride + c · plane_stride + y · pitch + x  of the buffer

A convolution finds its zero padding in place: a tap (dy, dx) of channel c is at one constant offset from the output's
pixel, for all pixels of a plane. Buffers share memory with others that are in use at other times, so nothing is zero
by itself. Who makes which bytes zero, and when:

* Behind the pixels of a row, up to the pitch: the kernel that writes the row, with the row.
* In the *gaps* before, between and behind the rows of planes: the first step of a run that writes the buffer, before
  it ends (`kernels/clear_gaps.py`). This is done only where `gap` is not 0, so a step that reads zeros there has
  asked the `LayoutSolver` for them. Kernels write nothing into gaps but zeros, up to the end of a cache line.
* Everything else holds any values, NaN included: gaps where `gap` is 0, and what is behind the last plane. Kernels
  may read them in whole vectors, but no result depends on them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpmt.arithmetic import ceil_div, round_up

CACHE_LINE = 16  # float32 elements
OVERREAD = 512  # elements that a kernel may read, but not use, behind the last plane
FLOAT_BYTES = 4


@dataclass(frozen=True)
class Planes:
    """The layout of float32 images [images, channels, height, width] in a buffer.

    Vectors [samples, features] have the layout Planes(images=1, channels=features, height=1, width=samples).

    Attributes:
        pitch: elements from a row to the next; those behind the pixels are zero padding.
        gap: at least so many zeros lie before and behind the rows of a plane; neighbouring planes share them. With 0,
            what is there can have any values.
    """

    images: int
    channels: int
    height: int
    width: int
    pitch: int
    gap: int

    @property
    def origin(self) -> int:
        """Elements before pixel (0, 0) of the first plane; this pixel of every plane begins a cache line."""
        return round_up(self.gap, CACHE_LINE)

    @property
    def extent(self) -> int:
        """Elements from pixel (0, 0) of a plane to the end of its last row, padding included."""
        return self.height * self.pitch

    @property
    def plane_stride(self) -> int:
        """Elements from a channel to the next: an odd number of cache lines, to spread channels over the cache."""
        lines = ceil_div(self.extent + self.gap, CACHE_LINE)
        return (lines | 1) * CACHE_LINE

    @property
    def image_stride(self) -> int:
        """Elements from an image to the next."""
        return self.channels * self.plane_stride

    @property
    def size(self) -> int:
        """Elements of the buffer, with those behind the last plane that are only read."""
        return self.origin + self.images * self.image_stride + OVERREAD

    @property
    def pitch_bytes(self) -> int:
        """Bytes from a row to the next."""
        return FLOAT_BYTES * self.pitch

    @property
    def plane_bytes(self) -> int:
        """Bytes from a channel to the next."""
        return FLOAT_BYTES * self.plane_stride

    @property
    def image_bytes(self) -> int:
        """Bytes from an image to the next."""
        return FLOAT_BYTES * self.image_stride

    @property
    def origin_bytes(self) -> int:
        """Bytes before pixel (0, 0) of the first plane."""
        return FLOAT_BYTES * self.origin

    @property
    def buffer_bytes(self) -> int:
        """Bytes of the buffer, with those behind the last plane that are only read."""
        return FLOAT_BYTES * self.size

    @property
    def own_bytes(self) -> int:
        """Bytes of the buffer that hold pixels or zeros."""
        return FLOAT_BYTES * (self.size - OVERREAD)

    def offset(self, image: int, channel: int, y: int, x: int) -> int:
        """Return the index of a pixel in the buffer."""
        return self.origin + image * self.image_stride + channel * self.plane_stride + y * self.pitch + x

    def mask(self, length: int | None = None) -> NDArray[np.int32]:
        """Return -1 for pixels and 0 for padding, int32 [length], from pixel (0, 0) of a plane on.

        Args:
            length: by default the plane's extent, up to the end of the last cache line: what kernels write.
        """
        index = np.arange(round_up(self.extent, CACHE_LINE) if length is None else length)
        inside = (index % self.pitch < self.width) & (index < self.extent)
        return -inside.astype(np.int32)

    def view(self, buffer: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the pixels of a buffer [size] as [images, channels, height, width], without a copy."""
        shape = self.images, self.channels, self.height, self.width
        strides = self.image_bytes, self.plane_bytes, self.pitch_bytes, FLOAT_BYTES
        return np.lib.stride_tricks.as_strided(buffer[self.origin :], shape, strides)
