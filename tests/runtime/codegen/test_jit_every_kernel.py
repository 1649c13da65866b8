"""Every kernel can be compiled for every kind of processor, and uses its vector instructions."""

import re

import pytest

from gpmt.runtime.codegen import jit, processor
from gpmt.runtime.ir.activation import RELU, Activation
from gpmt.runtime.kernels.add import AddKernel
from gpmt.runtime.kernels.affine import AffineKernel
from gpmt.runtime.kernels.attention import AttentionKernel
from gpmt.runtime.kernels.copy_rows import CopyRowsKernel, Rows
from gpmt.runtime.kernels.depthwise_conv import DepthwiseConvKernel
from gpmt.runtime.kernels.embedding import EmbeddingKernel
from gpmt.runtime.kernels.export_images import ExportImagesKernel
from gpmt.runtime.kernels.export_vectors import ExportVectorsKernel
from gpmt.runtime.kernels.flatten import FlattenKernel
from gpmt.runtime.kernels.gemv import GemvKernel
from gpmt.runtime.kernels.global_mean import GlobalMeanKernel
from gpmt.runtime.kernels.group_norm import GroupNormKernel
from gpmt.runtime.kernels.import_images import ImportImagesKernel
from gpmt.runtime.kernels.import_vectors import ImportVectorsKernel
from gpmt.runtime.kernels.layer_norm import LayerNormKernel
from gpmt.runtime.kernels.max_pool import MaxPoolKernel
from gpmt.runtime.kernels.mean_pool import MeanPoolKernel
from gpmt.runtime.kernels.phases import PhasesKernel
from gpmt.runtime.kernels.token_mean import TokenMeanKernel
from gpmt.runtime.layout.planes import Planes


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
    yield AffineKernel(lanes, images, images, images, Activation("gelu"))
    yield LayerNormKernel(lanes, vectors, vectors, 1e-5)
    yield GroupNormKernel(lanes, images, images, 4, 1e-5)
    yield AttentionKernel(lanes, *[vectors] * 4, 1, 4, 0.5, causal=True)
    yield EmbeddingKernel(lanes, vectors, 7)
    yield TokenMeanKernel(lanes, vectors, Planes(1, 20, 1, 1, 1, 0))
    yield CopyRowsKernel(lanes, Rows(0, 208, 17), Rows(0, 208, 17), 1, 20, 1, 17, 17, constant=True)
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
def test_every_kernel_for_every_processor(kind, multiply_add):
    host = processor.named(kind)
    for spec in kernels(host.lanes):
        text = jit.assembly(getattr(spec, "code", spec).emit(), host)
        assert "kernel:" in text
        assert not re.search(r"\tcallq?\t|\tbl\t", text), "a call of the C library for every element"
        if isinstance(spec, DepthwiseConvKernel | AffineKernel | GemvKernel):
            assert re.search(multiply_add, text), spec
