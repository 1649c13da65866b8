"""Addresses in planes are those of the pixels."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tests.runtime.kernels.drawing import few_examples
from tests.runtime.kernels.guarded import copied, run

from gpmt.runtime.codegen.addresses import image_address, plane_address, row_address
from gpmt.runtime.codegen.emitter import Emitter, constant
from gpmt.runtime.codegen.kernel import FixedSizeKernel
from gpmt.runtime.layout.planes import FLOAT_BYTES, Planes


@dataclass(frozen=True)
class AddressKernel(FixedSizeKernel):
    """Writes the addresses of an image, of a channel in it and of a row in that."""

    ARGS: ClassVar[tuple[str, ...]] = ("base", "found")

    planes: Planes
    image: int
    channel: int
    y: int
    planes_per_channel: int
    items: int = 1

    def emit(self):
        e = Emitter(4, self.ARGS)
        image = image_address(e, "base", self.planes, constant(self.image))
        plane = plane_address(e, image, self.planes, constant(self.channel), self.planes_per_channel)
        row = row_address(e, plane, self.planes, constant(self.y))
        for i, address in enumerate((image, plane, row)):
            e.store(address, e.arg("found"), 8 * i, align=8)
        return e.text()


@few_examples
@given(*[st.integers(0, 3)] * 3, st.integers(1, 4), st.integers(5, 40), st.integers(0, 20))
def test_addresses_are_those_of_pixels(image, channel, y, planes_per_channel, pitch, gap):
    planes = Planes(4, 16, 4, 5, pitch, gap)
    base, found = 1 << 33, copied(np.zeros(3, np.int64))
    run(AddressKernel(planes, image, channel, y, planes_per_channel), {"base": base, "found": found})
    first = channel * planes_per_channel
    offsets = [planes.offset(image, *place, 0) for place in ((0, 0), (first, 0), (first, y))]
    assert [*found] == [base - planes.origin_bytes + FLOAT_BYTES * offset for offset in offsets]
