"""How the work of a kernel is split into items: some rows of some channels of one image each."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

from llvmlite import ir

from gpmt.arithmetic import ceil_div
from gpmt.runtime.codegen.emitter import Emitter, constant
from gpmt.runtime.codegen.kernel import FixedSizeKernel

# The work of an item in elements that are read or written; 65536 take some microseconds.
MAX_ITEM_WORK = 65536
MIN_ITEM_WORK = 16384
MIN_ITEMS = 64  # with fewer, items get smaller than MAX_ITEM_WORK


@dataclass(frozen=True)
class Item:
    """What one item works on, as values in the kernel.

    Attributes:
        image: index of the image.
        channels: first channel, and the one behind the last.
        rows: first row, and the one behind the last.
    """

    image: ir.Value
    channels: tuple[ir.Value, ir.Value]
    rows: tuple[ir.Value, ir.Value]


@dataclass(frozen=True)
class WorkSplit:
    """The rows of all channels of all images, split into items.

    Attributes:
        images, channels, rows: of all items together.
        channels_per_item, rows_per_item: the last items of an image or of a channel can have fewer.
    """

    images: int
    channels: int
    rows: int
    channels_per_item: int
    rows_per_item: int

    @staticmethod
    def of(
        images: int,
        channels: int,
        rows: int,
        row_work: int,
        *,
        channel_multiple: int = 1,
        row_multiple: int = 1,
    ) -> WorkSplit:
        """Return a split into items of about equal work, neither too large nor too small.

        Args:
            images, channels, rows: of the whole work.
            row_work: the work of one row of one channel, in elements.
            channel_multiple, row_multiple: what the channels and rows of an item must be multiples of.
        """
        work = max(MIN_ITEM_WORK, min(MAX_ITEM_WORK, images * channels * rows * row_work // MIN_ITEMS))
        channels_per_item = _part_size(channels, max(1, work // (rows * row_work)), channel_multiple)
        rows_per_item = _part_size(rows, max(1, work // (channels_per_item * row_work)), row_multiple)
        return WorkSplit(images, channels, rows, channels_per_item, rows_per_item)

    @property
    def items(self) -> int:
        """Number of items."""
        return self.images * self._channel_parts * self._row_parts

    @property
    def _channel_parts(self) -> int:
        return ceil_div(self.channels, self.channels_per_item)

    @property
    def _row_parts(self) -> int:
        return ceil_div(self.rows, self.rows_per_item)

    def item(self, e: Emitter) -> Item:
        """Return what the kernel's item works on.

        item = (image · channel parts + channel part) · row parts + row part
        """
        rest, row_part = e.divmod(e.item, self._row_parts)
        image, channel_part = e.divmod(rest, self._channel_parts)
        channels = _range(e, channel_part, self.channels_per_item, self.channels)
        rows = _range(e, row_part, self.rows_per_item, self.rows)
        return Item(image, channels, rows)


class RowSplitKernel(FixedSizeKernel):
    """A kernel whose work is split by rows of channels."""

    @property
    @abstractmethod
    def _split(self) -> WorkSplit: ...

    @property
    def items(self) -> int:
        """Number of work items."""
        return self._split.items


def _part_size(total: int, wanted: int, multiple: int) -> int:
    """Return the size of equal parts of about the wanted size, a multiple of `multiple`."""
    parts = ceil_div(total, max(wanted, multiple))
    return ceil_div(total, parts * multiple) * multiple


def _range(e: Emitter, part: ir.Value, size: int, total: int) -> tuple[ir.Value, ir.Value]:
    first = e.mul(part, size)
    stop = e.add(first, size)
    return first, stop if total % size == 0 else e.minimum(stop, constant(total))
