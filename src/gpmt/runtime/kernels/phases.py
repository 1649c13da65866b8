"""Phases of images, for convolutions with a stride; also a copy of planes to another pitch.

Loops: channel → row of the output → vectors of the row → phases.

    input   planes [images, channels, height, width]
    output  planes [images, channels · phases, ceil(height / stride), ceil(width / stride)]

Reads whole vectors behind the pixels of a row of the input.
"""

from __future__ import annotations

from dataclasses import dataclass

from gpmt.runtime.codegen.addresses import plane_address, row_address
from gpmt.runtime.codegen.emitter import Emitter
from gpmt.runtime.codegen.work_split import WorkSplit
from gpmt.runtime.ir.values import Pair
from gpmt.runtime.kernels.shared.planes_kernel import PlanesKernel
from gpmt.runtime.kernels.shared.row_copy import ONE_PHASE, RowCopy, phase_rows


@dataclass(frozen=True)
class PhasesKernel(PlanesKernel):
    """Planes to the planes of their phases.

    Channel c · phases + i of the output has phase i = (ry, rx) of channel c of the input: its pixel (y, x) is pixel
    (y · sy + ry, x · sx + rx), or 0 if that is outside of the input.

    Attributes:
        lanes, input, output: as in `PlanesKernel`.
        stride: (sy, sx).
        phases: (ry, rx) of the phases to write.
    """

    stride: Pair = (1, 1)
    phases: tuple[Pair, ...] = ONE_PHASE

    @property
    def _copy(self) -> RowCopy:
        return RowCopy.of_planes(self.lanes, self.input, self.output.pitch, self.stride, self.phases)

    @property
    def _split(self) -> WorkSplit:
        return self._copy.split()

    def emit(self) -> str:
        """Return the kernel's LLVM IR."""
        e = Emitter(self.lanes, self.ARGS)
        item = self._split.item(e)
        source, output = self.image_addresses(e, item.image)
        with e.loop(*item.channels) as channel:
            plane = plane_address(e, source, self.input, channel)
            target = phase_rows(e, self.output, output, channel, len(self.phases))
            self._copy.emit(e, item.rows, lambda y: row_address(e, plane, self.input, y), target)
        return e.text()
