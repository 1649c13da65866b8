"""Sparse convolution by straight-line code, in which the pattern of the weights is.

`machine_code/straight_line.py` makes *blocks* of such code, whose loops take one or several vectors of pixels in a
*turn*; here is what calls them. The turns of a plane are split into *ranges*, and the groups of filters into *spans*,
so that several threads can work on a layer. Blocks clamp; other activations are applied to what a block has just
written, while that is in the L1 cache.

Loops: passes → groups of the span → (in the block) turns of the range; then filters of the group → vectors.

Arguments beside input, output and residual, which are planes as in `shared/tiled_conv.py`:

    code    address of the machine code
    blocks  int64 [spans · passes · groups of a span, 5]: offsets in the code of a block, of its constants, and of the
            block after it, which is prefetched; bytes from the first filter to the group's, and how many filters are
            finished by the block
    parts   int64 [parts, 4]: for a range and a span, first block, and the one behind the last (both in bytes of
            `blocks`), first turn and number of turns
    mask    0 for padding; a bit for each pixel, or 32 bits, as the processor's code reads it
    sizes   int64 [4]: parts; bytes from an image to the next of input, output and residual

    item = image · parts + part
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from gpmt.arithmetic import ceil_div
from gpmt.runtime.codegen.activations import activate
from gpmt.runtime.codegen.emitter import I1, I64, Emitter
from gpmt.runtime.codegen.kernel import KernelSpec
from gpmt.runtime.ir.activation import IDENTITY, Activation
from gpmt.runtime.layout.planes import FLOAT_BYTES, Planes
from gpmt.runtime.layout.taps import Taps
from gpmt.runtime.machine_code.dialect import Dialect, Ends
from gpmt.runtime.machine_code.instruction_stream import Shape
from gpmt.runtime.machine_code.straight_line import DIALECTS, StraightLineCode, emit

_ARGS = ("input", "output", "residual", "code", "blocks", "parts", "mask", "sizes")
_BLOCK_BYTES, _PART_BYTES = 40, 32


@dataclass(frozen=True)
class BlockCaller:
    """The code that calls blocks; layers of all sizes share it.

    Attributes:
        turn_bytes, mask_bytes: bytes of pixels and of the mask from one turn to the next.
        activation: is applied after a block.
        lanes, plane_bytes: where there is an activation, pixels of a vector, and bytes from a filter of the output to
            the next.
    """

    turn_bytes: int
    mask_bytes: int
    activation: Activation = IDENTITY
    lanes: int = 1
    plane_bytes: int = 0

    def emit(self) -> str:
        """Return the kernel's LLVM IR."""
        e = Emitter(self.lanes, _ARGS)
        parts, *image_bytes = e.int64s("sizes", 4)
        image, part = e.builder.udiv(e.item, parts), e.builder.urem(e.item, parts)
        entry = e.add(e.arg("parts"), e.mul(part, _PART_BYTES))
        first, stop, turn, turns = (e.load(entry, I64, 8 * i, align=8) for i in range(4))
        pixels = [
            e.add(e.add(e.arg(name), e.builder.mul(image, stride)), e.mul(turn, self.turn_bytes))
            for name, stride in zip(("input", "output", "residual"), image_bytes, strict=True)
        ]
        mask = e.add(e.arg("mask"), e.mul(turn, self.mask_bytes))
        kind = ir.FunctionType(ir.VoidType(), [I64] * 7)
        code, blocks = e.arg("code"), e.arg("blocks")
        with e.loop(e.add(blocks, first), e.add(blocks, stop), _BLOCK_BYTES) as block:
            start, constants, following = (e.add(code, e.load(block, I64, 8 * i, align=8)) for i in range(3))
            e.builder.call(e.pointer(start, kind), [*pixels, mask, constants, turns, following])
            if self.activation != IDENTITY:
                first, finished = (e.load(block, I64, 8 * i, align=8) for i in (3, 4))
                self._activate(e, e.add(pixels[1], first), mask, finished, turns)
        return e.text()

    def _activate(
        self, e: Emitter, output: ir.Value, mask: ir.Value, filters: ir.Value, turns: ir.Value
    ) -> None:
        """Apply the activation to some filters from an address on, and set the padding to zero again."""
        vector_bytes = FLOAT_BYTES * self.lanes
        vectors = e.mul(turns, self.turn_bytes // vector_bytes)
        planes = e.mul(filters, self.plane_bytes)
        with e.loop(output, e.add(output, planes), self.plane_bytes) as plane, e.loop(0, vectors) as vector:
            place = e.add(plane, e.mul(vector, vector_bytes))
            value = activate(e, e.load(place, e.vector), self.activation)
            inside = self._inside(e, mask, vector)
            e.store(e.builder.select(inside, value, e.splat(0.0)), place)

    def _inside(self, e: Emitter, mask: ir.Value, vector: ir.Value) -> ir.Value:
        """Return which elements of a vector are pixels: the mask has a bit or 32 bits for each."""
        own_bytes = self.mask_bytes * FLOAT_BYTES * self.lanes // self.turn_bytes
        place = e.add(mask, e.mul(vector, own_bytes))
        if 8 * own_bytes == self.lanes:
            bits = e.load(place, ir.IntType(self.lanes), align=own_bytes)
            return e.builder.bitcast(bits, ir.VectorType(I1, self.lanes))
        return e.builder.icmp_signed("!=", e.load(place, e.mask), ir.Constant(e.mask, [0] * self.lanes))


@dataclass(frozen=True, kw_only=True)
class StraightLineConvKernel(KernelSpec):
    """A sparse convolution or linear layer whose code is made for its weights.

    Attributes:
        processor: its kind, "avx512" or "neon".
        input, output, residual: layouts; no residual is None.
        shape: of the code.
        activation: is applied to the result.
        ranges: parts of a plane.
        spans: parts of the filters.
        groups: of filters, in all spans.
    """

    ARGS: ClassVar[tuple[str, ...]] = _ARGS
    OPTIONAL_ARGS: ClassVar[tuple[str, ...]] = ("residual",)

    processor: str
    input: Planes
    output: Planes
    shape: Shape
    residual: Planes | None = None
    activation: Activation = IDENTITY
    ranges: int = 1
    spans: int = 1
    groups: int = 1

    @property
    def items(self) -> int:
        """Number of work items."""
        return self.output.images * self.ranges * self.spans

    @property
    def code(self) -> BlockCaller:
        """The parameters of the code that calls the blocks."""
        bytes_of_turns = self._dialect.turn_bytes(self.shape), self._dialect.mask_bytes(self.shape)
        if self._in_blocks == self.activation:
            return BlockCaller(*bytes_of_turns)
        return BlockCaller(*bytes_of_turns, self.activation, self._dialect.lanes, self.output.plane_bytes)

    @property
    def _in_blocks(self) -> Activation:
        """The activation that the blocks apply: clamps."""
        return self.activation if self.activation.kind in ("none", "clamp") else IDENTITY

    @property
    def description(self) -> str:
        """The kernel's name and parameters, for tables."""
        words = [super().description, f"groups of {self.shape.filters}"]
        words += [f"passes {self.shape.passes}"] if self.shape.passes > 1 else []
        words += ["joined lines"] if self.shape.aligned else []
        words += [f"{self.shape.vectors} vectors"] if self.shape.vectors > 1 else []
        return ", ".join([*words, f"{self.ranges}×{self.spans} parts"])

    @property
    def turns(self) -> int:
        """Turns for a plane."""
        return ceil_div(self.output.extent, self._dialect.lanes * self.shape.vectors)

    @property
    def _dialect(self) -> Dialect:
        return DIALECTS[self.processor]

    def emit_blocks(
        self, weight: NDArray[np.float32], bias: NDArray[np.float32], taps: Taps
    ) -> StraightLineCode:
        """Return the code of the layer's blocks; it does not depend on `ranges` and `spans`."""
        residual_stride = self.residual.plane_bytes if self.residual else None
        ends = Ends(self.output.plane_bytes, residual_stride, self._in_blocks)
        return emit(self._dialect, weight, bias, taps.offsets, ends, self.shape)

    def pack(self, code: StraightLineCode) -> dict[str, NDArray[np.generic]]:
        """Return the arguments "blocks", "parts", "mask" and "sizes"."""
        groups = np.linspace(0, self.groups, self.spans + 1).astype(np.int64)
        turns = np.linspace(0, self.turns, self.ranges + 1).astype(np.int64)
        finished = np.zeros(code.blocks.shape[:2], np.int64)
        finished[-1] = np.diff(code.filters)
        first_bytes = np.broadcast_to(code.filters[:-1] * self.output.plane_bytes, finished.shape)
        table = np.concatenate([code.blocks, first_bytes[..., None], finished[..., None]], axis=2)
        spans = [table[:, first:stop].reshape(-1, 5) for first, stop in pairwise(groups)]
        ends = np.cumsum([0, *(len(span) for span in spans)])
        blocks = np.concatenate(spans)
        blocks[:, 2] = np.roll(blocks[:, 0], -1)
        parts = [
            (_BLOCK_BYTES * ends[s], _BLOCK_BYTES * ends[s + 1], turns[r], turns[r + 1] - turns[r])
            for r in range(self.ranges)
            for s in range(self.spans)
        ]
        added = self.residual.image_bytes if self.residual else 0
        strides = self.input.image_bytes, self.output.image_bytes, added
        return {
            "blocks": np.ascontiguousarray(blocks),
            "parts": np.array(parts, np.int64),
            "mask": self._dialect.mask(self.output.mask()),
            "sizes": np.array([len(parts), *strides], np.int64),
        }


def split(spec: StraightLineConvKernel, ranges: int, spans: int) -> StraightLineConvKernel:
    """Return the kernel with as many ranges of pixels and spans of filters, or as there can be.

    In the time of a range, the code of the next block is prefetched.
    """
    ranges, spans = min(ranges, spec.turns), min(spans, spec.groups)
    shape = replace(spec.shape, prefetched_over=spec.turns // ranges)
    return replace(spec, shape=shape, ranges=ranges, spans=spans)
