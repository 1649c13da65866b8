"""Vectors rearranged, against NumPy; and that every kernel can be made for every processor."""

import re
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from tests.runtime.kernels.guarded import copied, guarded, run

from gpmt.runtime.codegen import jit, processor
from gpmt.runtime.codegen.emitter import Emitter
from gpmt.runtime.codegen.shuffles import alternate, gather, load_first, store_first, straighten, transpose
from gpmt.runtime.ir.activation import RELU, Activation
from gpmt.runtime.kernels.depthwise import DepthwiseConvKernel
from gpmt.runtime.kernels.gemv import GemvKernel
from gpmt.runtime.kernels.pack import ExportImagesKernel, ImportImagesKernel, PhasesKernel
from gpmt.runtime.kernels.pointwise import AddKernel, AffineKernel
from gpmt.runtime.kernels.pool import GlobalMeanKernel, MaxPoolKernel, MeanPoolKernel
from gpmt.runtime.kernels.vectors import ExportVectorsKernel, FlattenKernel, ImportVectorsKernel
from gpmt.runtime.layout.planes import Planes

LANES = [4, 8, 16]


@dataclass(frozen=True)
class Words:
    """Writes what the words of the module make of the numbers at "input"."""

    ARGS: ClassVar[tuple[str, ...]] = ("input", "output")

    lanes: int
    word: str
    count: int = 0
    items: int = 1

    def emit(self):
        e = Emitter(self.lanes)
        source, output, step = e.arg(0), e.arg(1), 4 * self.lanes
        match self.word:
            case "first":
                store_first(e, load_first(e, source, self.count), output, self.count)
            case "gather":
                e.store(gather(e, source, 12, self.count), output)
            case "transpose":
                rows = [e.load(source, e.vector, i * step) for i in range(self.lanes)]
                for i, column in enumerate(transpose(e, rows)):
                    e.store(column, output, i * step)
            case "alternate":
                halves = [e.load(source, e.vector, i * step) for i in range(2)]
                e.store(straighten(e, alternate(e, halves, self.count)), output)
        return e.text()


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("side", ["start", "end"])
def test_parts_of_vectors(lanes, side):
    for count in range(1, lanes + 1):
        source, output = copied(np.arange(1, count + 1, dtype=np.float32), side), guarded(count, at=side)
        run(Words(lanes, "first", count), {"input": source, "output": output})
        np.testing.assert_array_equal(output, source)


@pytest.mark.parametrize("lanes", LANES)
def test_gather(lanes):
    source = copied(np.arange(3 * lanes - 5, dtype=np.float32))
    output = guarded(lanes)
    run(Words(lanes, "gather", lanes - 1), {"input": source, "output": output})
    np.testing.assert_array_equal(output, [*range(0, 3 * lanes - 3, 3), 0])


@pytest.mark.parametrize("lanes", LANES)
def test_transpose(lanes):
    source, output = copied(np.arange(lanes**2, dtype=np.float32)), guarded(lanes**2)
    run(Words(lanes, "transpose"), {"input": source, "output": output})
    np.testing.assert_array_equal(output.reshape(lanes, lanes), source.reshape(lanes, lanes).T)


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("parity", [0, 1])
def test_every_second_number(lanes, parity):
    source, output = copied(np.arange(2 * lanes, dtype=np.float32)), guarded(lanes)
    run(Words(lanes, "alternate", parity), {"input": source, "output": output})
    np.testing.assert_array_equal(output, source[parity::2])


def kernels(lanes):
    images, small = Planes(1, 20, 40, 40, 42, 90), Planes(1, 20, 20, 20, 21, 22)
    vectors, four = Planes(1, 20, 1, 17, 17, 0), tuple((y, x) for y in (0, 1) for x in (0, 1))
    yield ImportImagesKernel(lanes, 20, 40, 40, images)
    yield ExportImagesKernel(lanes, images)
    yield PhasesKernel(lanes, images, Planes(1, 80, 20, 20, 21, 22), (2, 2), four)
    yield ImportVectorsKernel(lanes, vectors)
    yield ExportVectorsKernel(lanes, vectors)
    yield FlattenKernel(lanes, small, Planes(1, 8000, 1, 1, 1, 0))
    yield MaxPoolKernel(lanes, images, small, (3, 3), (2, 2), (1, 1, 1, 1))
    yield MeanPoolKernel(lanes, images, small, (3, 3), (2, 2), (1, 1, 1, 1))
    yield GlobalMeanKernel(lanes, images, Planes(1, 20, 1, 1, 1, 0))
    yield DepthwiseConvKernel(lanes, images, images, (3, 3), padding=(1, 1), activation=RELU)
    yield DepthwiseConvKernel(lanes, images, small, (3, 3), (2, 2), (1, 1), activation=Activation("silu"))
    yield AffineKernel(lanes, images, images, images, Activation("hardswish"))
    yield AffineKernel(lanes, images, images, images, Activation("silu"))
    yield AddKernel(lanes, images, images, images, RELU)
    few = Planes(1, 20, 1, 2, 2, 0)
    yield GemvKernel(lanes, few, few)


@pytest.mark.parametrize(
    ("kind", "multiply_add"),
    [
        ("avx512", r"vfmadd.*zmm"),
        ("avx2", r"vfmadd.*ymm"),
        ("neon", r"fmla\tv\d+\.4s"),
        ("plain", r"mulps.*xmm"),
    ],
)
def test_kernels_for_every_processor(kind, multiply_add):
    host = processor.named(kind)
    for spec in kernels(host.lanes):
        text = jit.assembly(getattr(spec, "code", spec).emit(), host)
        assert "kernel:" in text
        assert not re.search(r"\tcallq?\t|\tbl\t", text), "a call of the C library for every number"
        if isinstance(spec, DepthwiseConvKernel | AffineKernel | GemvKernel):
            assert re.search(multiply_add, text), spec
