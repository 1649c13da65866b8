"""Ways to compute one convolution or linear layer, and what a simple model of the processor says they cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from gpmt.arithmetic import ceil_div, round_up
from gpmt.errors import RuntimeProgramError
from gpmt.runtime.codegen.kernel import KernelSpec
from gpmt.runtime.codegen.processor import Processor
from gpmt.runtime.codegen.tiles import Tiles
from gpmt.runtime.ir.activation import Activation
from gpmt.runtime.ir.values import Floats
from gpmt.runtime.kernels import dense, sparse
from gpmt.runtime.kernels.dense import DenseConvKernel
from gpmt.runtime.kernels.gemv import GemvKernel
from gpmt.runtime.kernels.sparse import SparseConvKernel
from gpmt.runtime.layout.planes import Planes

Array = NDArray[np.float32] | NDArray[np.int32] | NDArray[np.int64]

_FIRST_LEVEL = 28 << 10  # bytes of inputs that stay in the first-level cache beside what else passes through
_SECOND_LEVEL = 384 << 10
_ITEM = 25_000  # cycles that a piece of work should take at least, several microseconds
_REACH = 2**31 - 1  # bytes
_SHARE = 4  # pieces of work for each thread, at least: the slowest thread then waits for little


@dataclass(frozen=True, eq=False)
class Layer:
    """A convolution between two buffers, as its kernels see it.

    Attributes:
        weight: [filters, taps]; bias: [filters].
        offsets: [taps], bytes from the output's pixel to the input's; channel: [taps], not descending.
        shift: [filters], bytes that a filter's offsets have more, for grouped convolutions.
        input, output, residual: their layouts.
    """

    weight: Floats
    bias: Floats
    offsets: NDArray[np.int64]
    channel: NDArray[np.int64]
    shift: NDArray[np.int64] | None
    input: Planes
    output: Planes
    residual: Planes | None
    activation: Activation

    @property
    def kept(self) -> int:
        """Weights that are not zero."""
        return int(np.count_nonzero(self.weight))


@dataclass(frozen=True, eq=False)
class Candidate:
    """One way to compute a layer.

    Attributes:
        spec: the kernel.
        cycles: what it should cost, all threads together.
        arrays: makes its constant arguments, by their names in spec.ARGS.
    """

    spec: KernelSpec
    cycles: float
    arrays: Callable[[], dict[str, Array]]


def candidates(layer: Layer, processor: Processor, threads: int) -> list[Candidate]:
    """Return the ways to compute a layer, the most promising first.

    Raises:
        RuntimeProgramError: an image, or all samples of a linear layer, take more than 32-bit offsets reach.
    """
    _check_reach(layer)
    found = [
        *_sparse(layer, processor, threads),
        *_dense(layer, processor, threads),
        *_gemv(layer, processor),
    ]
    return sorted(found, key=lambda candidate: candidate.cycles)


def _check_reach(layer: Layer) -> None:
    for planes in (layer.input, layer.output, layer.residual):
        size = planes.image_bytes if planes else 0
        if size > _REACH:
            raise RuntimeProgramError(
                f"a layer works on {size / 2**30:.1f} GiB at once, but its kernels reach 2 GiB; compile for "
                "smaller images or a smaller batch"
            )


def _sparse(layer: Layer, processor: Processor, threads: int) -> Iterator[Candidate]:
    vectors = ceil_div(layer.output.extent, processor.lanes)
    most = processor.registers - 3 if processor.registers == 16 else 14
    channels = int(layer.channel[-1]) + 1 if len(layer.channel) else 1
    kept, filters = layer.kept, len(layer.weight)
    common = SparseConvKernel(
        processor.lanes, Tiles.of(vectors, 1), layer.output.images, 1, 1,
        layer.input.image_bytes, layer.output.image_bytes,
        layer.residual.image_bytes if layer.residual else 0, layer.residual is not None, layer.activation,
    )  # fmt: skip
    for tiling in _tilings(vectors, most):
        size = tiling.size
        # What a tile reads of a channel: itself, and for windows the rows around.
        spread = int(layer.offsets.max() - layer.offsets.min()) if len(layer.offsets) else 0
        halo = spread - 4 * (channels - 1) * layer.input.plane_stride
        bytes_of_channel = 4 * processor.lanes * size + max(0, halo)
        for blocks in (1, 2, 3, 4, 6, 8, 12, 16):
            if blocks > max(1, channels // 8) or (blocks > 1 and layer.shift is not None):
                break
            footprint = bytes_of_channel * channels / blocks
            slow = 1.0 if footprint < _FIRST_LEVEL else 1.9 if footprint < _SECOND_LEVEL else 2.6
            crossing = 1.0 if not halo else 1.35
            tiles = tiling.count * layer.output.images
            per_weight = max(0.5 * (size + 1.5), 2.0) * slow * crossing
            per_row = 14 + 2.2 * size
            cycles = tiles * (kept * per_weight + blocks * filters * per_row)
            groups = _parts(cycles, tiles, threads, filters)
            items = tiles * groups
            cycles *= round_up(items, threads) / items
            spec = replace(common, tiles=tiling, blocks=blocks, groups=groups)
            yield Candidate(spec, cycles, partial(_stream, layer, channels, spec))


def _stream(layer: Layer, channels: int, spec: SparseConvKernel) -> dict[str, Array]:
    made = sparse.arrange(
        layer.weight, layer.bias, layer.offsets, layer.channel,
        channels=channels, blocks=spec.blocks, groups=spec.groups, shift=layer.shift,
        output_plane=layer.output.plane_bytes, residual_plane=layer.residual.plane_bytes if layer.residual else 0,
    )  # fmt: skip
    return {
        "stream": made.stream,
        "rows": made.rows,
        "table": made.table,
        "mask": layer.output.mask(),
        "numbers": spec.numbers(),
    }


def _dense(layer: Layer, processor: Processor, threads: int) -> Iterator[Candidate]:
    filters, taps = layer.weight.shape
    if layer.shift is not None or not taps:
        return
    vectors = ceil_div(layer.output.extent, processor.lanes)
    shapes = ((3, 4), (2, 6), (1, 8)) if processor.registers == 16 else ((4, 6), (3, 8), (2, 8), (1, 8))
    for tile, bunch in shapes:
        if tile > vectors:
            continue
        tiling = Tiles.of(vectors, tile)
        tiles = tiling.count * layer.output.images
        bunches = ceil_div(filters, bunch)
        cycles = tiles * bunches * (taps * max(0.52 * tile * bunch, 0.5 * (tile + bunch + 1)) + 40.0)
        parts = _parts(cycles, tiles, threads, bunches)
        cycles *= round_up(tiles * parts, threads) / (tiles * parts)
        spec = DenseConvKernel(
            processor.lanes, tiling, bunch, layer.output.images, filters, taps, parts,
            layer.input.image_bytes, layer.output.image_bytes, layer.output.plane_bytes,
            layer.residual.image_bytes if layer.residual else 0,
            layer.residual.plane_bytes if layer.residual else 0,
            layer.residual is not None, layer.activation,
        )  # fmt: skip
        yield Candidate(spec, cycles, partial(_packed, layer, spec))


def _gemv(layer: Layer, processor: Processor) -> Iterator[Candidate]:
    filters, features = layer.weight.shape
    source, output = layer.input, layer.output
    one_row = source.images == source.height == output.height == 1 and source.width == output.width
    # A window of one pixel may lie beside it, in the padding.
    pixels = source.plane_bytes * np.arange(source.channels)
    linear = one_row and layer.shift is None and np.array_equal(layer.offsets, pixels)
    # Filters in the lanes: for so few samples that they would not fill a vector.
    if linear and layer.residual is None and source.width <= 4:
        for vectors in (2, 4):
            spec = GemvKernel(processor.lanes, layer.input, layer.output, vectors, layer.activation)
            # The weights are read once, from memory.
            yield Candidate(spec, filters * features * 0.4, partial(_blocked, layer, spec))


def _blocked(layer: Layer, spec: GemvKernel) -> dict[str, Array]:
    weights, bias = spec.pack_weights(layer.weight, layer.bias)
    return {"weights": weights, "bias": bias}


def _packed(layer: Layer, spec: DenseConvKernel) -> dict[str, Array]:
    weights, bias = dense.pack(layer.weight, layer.bias, spec.bunch)
    offsets = layer.offsets.astype(np.int32)
    return {
        "weights": weights,
        "bias": bias,
        "offsets": offsets,
        "mask": layer.output.mask(),
        "numbers": spec.numbers(),
    }


def _tilings(vectors: int, most: int) -> list[Tiles]:
    """Return ways to cut a plane that are worth trying: into equal tiles, and into large ones."""
    sizes = {4, 6, 8, 10, 12, most} | {size for size in range(4, most + 1) if vectors % size == 0}
    return sorted({Tiles.of(vectors, size) for size in sizes}, key=lambda tiles: tiles.count)


def _parts(cycles: float, tiles: int, threads: int, most: int) -> int:
    """Return into how many parts the filters are cut, so that threads share evenly without too small pieces."""
    parts = 1
    while threads > 1 and tiles * parts < _SHARE * threads and 2 * parts <= most:
        if cycles / (tiles * parts * 2) < _ITEM and tiles * parts >= threads:
            break
        parts *= 2
    return parts
