"""Lowering rules of operators that make tokens, or put them elsewhere."""

from __future__ import annotations

import numpy as np
import torch

from gpmt.runtime.ir.operators import Embedding, PixelsToTokens, PlaceTokens, Slice, TokensToPixels
from gpmt.runtime.kernels.copy_rows import CopyRowsKernel, Rows
from gpmt.runtime.kernels.embedding import EmbeddingKernel
from gpmt.runtime.lowering.rules import LoweringContext, lowers
from gpmt.runtime.lowering.steps import Argument, BufferAddress, InputTensor, PlanesByName


@lowers(Embedding)
def lower_embedding(op: Embedding, context: LoweringContext) -> None:
    """Look the rows up."""
    source = InputTensor(context.layouts.as_tensor(op.input), contiguous=True)
    output = context.layouts.new_buffer(op.output, "vectors")
    size = 8 if context.steps.values[op.input].dtype == torch.int64 else 4
    context.steps.add_kernel(
        "embedding", {"input": source, "output": BufferAddress(output)},
        lambda planes: EmbeddingKernel(context.lanes, planes["output"], len(op.weight), size),
        lambda *_: {"table": op.weight},
    )  # fmt: skip


@lowers(PlaceTokens)
def lower_place_tokens(op: PlaceTokens, context: LoweringContext) -> None:
    """Copy the tokens of every sample to their place, and add the constant."""
    batch, tokens, _ = context.steps.shape(op.input)
    placed = len(op.constant)

    def make_spec(planes: PlanesByName) -> CopyRowsKernel:
        source, output = planes["input"], planes["output"]
        return CopyRowsKernel(
            context.lanes, Rows(0, source.plane_stride, tokens), Rows(0, output.plane_stride, placed),
            1, output.channels, batch, tokens, placed, op.first, batch * placed, constant=True,
        )  # fmt: skip

    constant = np.ascontiguousarray(op.constant.T)
    arguments = _arguments(context, context.layouts.as_vectors(op.input), op.output)
    context.steps.add_kernel("place tokens", arguments, make_spec, lambda *_: {"constant": constant})


def lower_slice_of_tokens(op: Slice, context: LoweringContext) -> None:
    """Copy some tokens of every sample."""
    batch, tokens, _ = context.steps.shape(op.input)
    kept = context.steps.shape(op.output)[1]

    def make_spec(planes: PlanesByName) -> CopyRowsKernel:
        source, output = planes["input"], planes["output"]
        return CopyRowsKernel(
            context.lanes, Rows(0, source.plane_stride, tokens), Rows(0, output.plane_stride, kept),
            1, output.channels, batch, kept, kept, tail=batch * kept, skipped=op.first,
        )  # fmt: skip

    arguments = _arguments(context, context.layouts.as_vectors(op.input), op.output)
    context.steps.add_kernel("slice", arguments, make_spec)


@lowers(PixelsToTokens)
def lower_pixels_to_tokens(op: PixelsToTokens, context: LoweringContext) -> None:
    """Copy the rows of images without their padding; pixels become the samples of vectors."""
    batch, channels, height, width = context.steps.shape(op.input)

    def make_spec(planes: PlanesByName) -> CopyRowsKernel:
        source, output = planes["input"], planes["output"]
        return CopyRowsKernel(
            context.lanes, Rows(source.image_stride, source.plane_stride, source.pitch),
            Rows(height * width, output.plane_stride, width),
            batch, channels, height, width, width, tail=batch * height * width,
        )  # fmt: skip

    arguments = _arguments(context, context.layouts.as_images(op.input), op.output)
    context.steps.add_kernel("pixels to tokens", arguments, make_spec)


@lowers(TokensToPixels)
def lower_tokens_to_pixels(op: TokensToPixels, context: LoweringContext) -> None:
    """Copy the samples of vectors to the rows of images."""
    batch, channels, height, width = context.steps.shape(op.output)
    source = context.layouts.as_vectors(op.input)
    output = context.layouts.new_buffer(op.output, "images")

    def make_spec(planes: PlanesByName) -> CopyRowsKernel:
        read, written = planes["input"], planes["output"]
        return CopyRowsKernel(
            context.lanes, Rows(height * width, read.plane_stride, width),
            Rows(written.image_stride, written.plane_stride, written.pitch),
            batch, channels, height, width, written.pitch,
        )  # fmt: skip

    arguments: dict[str, Argument] = {"input": BufferAddress(source), "output": BufferAddress(output)}
    context.steps.add_kernel("tokens to pixels", arguments, make_spec)


def _arguments(context: LoweringContext, source: str, output: str) -> dict[str, Argument]:
    """Return the addresses of a buffer that is read, and of a new one of vectors."""
    return {
        "input": BufferAddress(source),
        "output": BufferAddress(context.layouts.new_buffer(output, "vectors")),
    }
