"""Images into planes, or into the phases of a stride, from a tensor of any strides.

The kernel has code for three cases; the tensor's strides select one when it runs:

* elements of a row are contiguous: channel → row → vectors of the row;
* channels last: row → blocks of columns → blocks of channels; a block is transposed in registers;
* any other strides: channel → row → one element after the other.

    input               tensor [images, channels, height, width]
    output              planes [images, channels · phases, ceil(height / stride), ceil(width / stride)]
    stride_n, ..., _w   integers: bytes from an image, channel, row, column of the tensor to the next

Reads nothing but the tensor's elements.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from llvmlite import ir

from gpmt.arithmetic import round_up
from gpmt.runtime.codegen.addresses import image_address, plane_address, row_address
from gpmt.runtime.codegen.emitter import Emitter, constant
from gpmt.runtime.codegen.loops import RowVector, block_loop
from gpmt.runtime.codegen.shuffles import load_first, transpose
from gpmt.runtime.codegen.work_split import Item, RowSplitKernel, WorkSplit
from gpmt.runtime.ir.values import Pair
from gpmt.runtime.kernels.shared.row_copy import ONE_PHASE, RowCopy, phase_rows
from gpmt.runtime.layout.planes import FLOAT_BYTES, Planes

_MIN_CHANNELS = 4  # from which on channels-last tensors are worth code of their own


@dataclass(frozen=True)
class ImportImagesKernel(RowSplitKernel):
    """A tensor to planes.

    Attributes:
        lanes: elements of a vector register.
        channels, height, width: of the tensor; it has as many images as the output.
        output: the layout.
        stride, phases: as in `PhasesKernel`.
    """

    ARGS: ClassVar[tuple[str, ...]] = (
        "input", "output", "stride_n", "stride_c", "stride_h", "stride_w",
    )  # fmt: skip

    lanes: int
    channels: int
    height: int
    width: int
    output: Planes
    stride: Pair = (1, 1)
    phases: tuple[Pair, ...] = ONE_PHASE

    @property
    def _channels_last(self) -> bool:
        """Whether channels-last tensors have code of their own."""
        return self.stride == (1, 1) and self.channels >= _MIN_CHANNELS

    @property
    def _copy(self) -> RowCopy:
        return RowCopy(
            self.lanes, self.output.images, self.channels, self.height, self.width,
            self.output.pitch, self.stride, self.phases, exact=True,
        )  # fmt: skip

    @property
    def _split(self) -> WorkSplit:
        return self._copy.split(channel_multiple=16 if self._channels_last else 1)

    def emit(self) -> str:
        """Return the kernel's LLVM IR."""
        e = Emitter(self.lanes, self.ARGS)
        item = self._split.item(e)
        stride_n, stride_c, stride_h, stride_w = (e.arg(f"stride_{axis}") for axis in "nchw")
        source = e.add(e.arg("input"), e.builder.mul(item.image, stride_n))
        output = image_address(e, "output", self.output, item.image)

        def copy_rows(contiguous: bool) -> None:
            with e.loop(*item.channels) as channel:
                plane = e.add(source, e.builder.mul(channel, stride_c))
                target = phase_rows(e, self.output, output, channel, len(self.phases))

                def row(y: ir.Value) -> ir.Value:
                    return e.add(plane, e.builder.mul(y, stride_h))

                if contiguous:
                    self._copy.emit(e, item.rows, row, target)
                else:
                    self._copy.emit_scattered(e, item.rows, stride_w, row, target)

        contiguous_rows = e.builder.icmp_signed("==", stride_w, constant(FLOAT_BYTES))
        with e.builder.if_else(contiguous_rows) as (contiguous, others):
            with contiguous:
                copy_rows(contiguous=True)
            with others:
                if self._channels_last:
                    contiguous_channels = e.builder.icmp_signed("==", stride_c, constant(FLOAT_BYTES))
                    with e.builder.if_else(contiguous_channels) as (channels_last, any_strides):
                        with channels_last:
                            self._copy_channels_last(e, item, source, output, stride_h, stride_w)
                        with any_strides:
                            copy_rows(contiguous=False)
                else:
                    copy_rows(contiguous=False)
        return e.text()

    def _copy_channels_last(
        self,
        e: Emitter,
        item: Item,
        source: ir.Value,
        output: ir.Value,
        stride_h: ir.Value,
        stride_w: ir.Value,
    ) -> None:
        """Write a copy of blocks of `lanes` channels and pixels, given the addresses of the images."""

        def block(y: ir.Value, x: ir.Value, pixels: int, channel: ir.Value, channels: int) -> None:
            address = e.add(
                e.add(source, e.builder.mul(y, stride_h)),
                e.add(e.builder.mul(x, stride_w), e.mul(channel, 4)),
            )
            rows = []
            for i in range(self.lanes):
                rows.append(load_first(e, address, channels) if i < pixels else e.splat(0.0))
                address = e.add(address, stride_w)
            offset = e.add(e.mul(channel, self.output.plane_bytes), e.mul(y, self.output.pitch_bytes))
            target = e.add(output, offset)
            in_row = self.lanes
            if pixels < self.lanes:
                in_row = min(self.lanes, self.output.pitch - (self.width - pixels))
            for i, column in enumerate(transpose(e, rows)[:channels]):
                RowVector(x, pixels, in_row).store(e, column, e.add(target, i * self.output.plane_bytes))

        with e.loop(*item.rows) as y:

            def columns(x: ir.Value, pixels: int, y: ir.Value = y) -> None:
                block_loop(
                    e, *item.channels, self.channels, self.lanes,
                    lambda channel, channels: block(y, x, pixels, channel, channels),
                )  # fmt: skip

            block_loop(e, 0, self.width, self.width, self.lanes, columns)
            # The padding that the last block of columns does not reach.
            begin = round_up(self.width, self.lanes)
            row = row_address(e, output, self.output, y)
            with e.loop(*item.channels) as channel:
                row_of_channel = plane_address(e, row, self.output, channel)
                for x0 in range(begin, self.output.pitch, self.lanes):
                    vector = RowVector(constant(x0), 0, min(self.lanes, self.output.pitch - x0))
                    vector.store(e, e.splat(0.0), row_of_channel)
