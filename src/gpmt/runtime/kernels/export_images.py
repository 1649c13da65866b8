"""Images out of planes, to a contiguous tensor.

Loops: channel → row → vectors of the row.

    input   planes [images, channels, height, width]
    output  contiguous tensor [images, channels, height, width]

Reads whole vectors behind the pixels of a row of the input.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gpmt.runtime.codegen.addresses import image_address, plane_address, row_address
from gpmt.runtime.codegen.emitter import Emitter
from gpmt.runtime.codegen.work_split import RowSplitKernel, WorkSplit
from gpmt.runtime.kernels.shared.row_copy import RowCopy
from gpmt.runtime.layout.planes import FLOAT_BYTES, Planes


@dataclass(frozen=True)
class ExportImagesKernel(RowSplitKernel):
    """Planes to a tensor.

    Attributes:
        lanes: elements of a vector register.
        input: the layout.
    """

    ARGS: ClassVar[tuple[str, ...]] = ("input", "output")

    lanes: int
    input: Planes

    @property
    def _copy(self) -> RowCopy:
        return RowCopy.of_planes(self.lanes, self.input, pitch=self.input.width)

    @property
    def _split(self) -> WorkSplit:
        return self._copy.split()

    def emit(self) -> str:
        """Return the kernel's LLVM IR."""
        e = Emitter(self.lanes, self.ARGS)
        row_bytes = FLOAT_BYTES * self.input.width
        channel_bytes = row_bytes * self.input.height
        item = self._split.item(e)
        source = image_address(e, "input", self.input, item.image)
        output = e.add(e.arg("output"), e.mul(item.image, channel_bytes * self.input.channels))
        with e.loop(*item.channels) as channel:
            plane = plane_address(e, source, self.input, channel)
            target = e.add(output, e.mul(channel, channel_bytes))
            self._copy.emit(
                e, item.rows,
                lambda y: row_address(e, plane, self.input, y),
                lambda y, _: e.add(target, e.mul(y, row_bytes)),
            )  # fmt: skip
        return e.text()
