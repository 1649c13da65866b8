"""Ways to compute one convolution or linear layer, in the order of what they should cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray

from gpmt.arithmetic import ceil_div
from gpmt.errors import RuntimeProgramError
from gpmt.runtime.codegen.kernel import KernelSpec
from gpmt.runtime.codegen.processor import Processor
from gpmt.runtime.codegen.tiles import Tiles
from gpmt.runtime.ir.activation import Activation
from gpmt.runtime.ir.values import Floats
from gpmt.runtime.kernels.dense_conv import DenseConvKernel
from gpmt.runtime.kernels.gemv import GemvKernel
from gpmt.runtime.kernels.sparse_conv import SparseConvKernel
from gpmt.runtime.kernels.sparse_gemv import MOST_SAMPLES, SparseGemvKernel
from gpmt.runtime.kernels.straight_line_conv import StraightLineConvKernel, split
from gpmt.runtime.layout.planes import FLOAT_BYTES, Planes
from gpmt.runtime.layout.taps import Taps
from gpmt.runtime.lowering.cost_model import (
    COST_MODEL,
    CostModel,
    DenseWork,
    GemvWork,
    SparseGemvWork,
    SparseWork,
    StraightLineWork,
    Work,
    imbalance,
)
from gpmt.runtime.machine_code.executable_memory import refusal
from gpmt.runtime.machine_code.instruction_stream import Shape
from gpmt.runtime.machine_code.straight_line import DIALECTS, StraightLineCode

Constants = Mapping[str, NDArray[np.generic]]

_MAX_SPLITS = 6  # of straight-line code
_MAX_REACH = 2**31 - 1  # bytes, of the kernels' 32-bit offsets


@dataclass(frozen=True, eq=False)
class Layer:
    """A convolution between two buffers, as its kernels see it.

    Attributes:
        weight: float32 [filters, taps].
        bias: float32 [filters].
        taps: where the taps read.
        input, output, residual: the buffers' planes.
        activation: of the output.
    """

    weight: Floats
    bias: Floats
    taps: Taps
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
    """One way to compute a step.

    Attributes:
        spec: the kernel.
        cycles: what it should cost by the cost model, all threads together; 0 for a step with only one candidate.
        arrays: returns its constant arguments, by their names in `spec.ARGS`.
        code: returns the machine code at the argument "code", for a kernel that is made for its weights.
        work: what the cost model counts, for a step with several candidates.
    """

    spec: KernelSpec
    cycles: float
    arrays: Callable[[], Constants]
    work: Work | None = None
    code: Callable[[], NDArray[np.uint8]] | None = None


def candidates(
    layer: Layer, processor: Processor, threads: int, model: CostModel = COST_MODEL
) -> list[Candidate]:
    """Return the ways to compute a layer, the most promising first.

    Args:
        layer: the layer.
        processor: that kernels are chosen for.
        threads: that share the layer.
        model: what estimates the costs.

    Raises:
        RuntimeProgramError: an image, or all samples of a linear layer, are larger than 32-bit offsets reach.
    """
    _check_reach(layer)
    found = [
        *_sparse(layer, processor, threads, model),
        *_straight_line(layer, processor, threads, model),
        *_dense(layer, processor, threads, model),
        *_gemv(layer, processor, model),
        *_sparse_gemv(layer, threads, model),
    ]
    return sorted(found, key=lambda candidate: candidate.cycles)


def _check_reach(layer: Layer) -> None:
    for planes in (layer.input, layer.output, layer.residual):
        size = planes.image_bytes if planes else 0
        if size > _MAX_REACH:
            raise RuntimeProgramError(
                f"a layer works on {size / 2**30:.1f} GiB at once, but its kernels reach 2 GiB; compile for "
                "smaller images or a smaller batch"
            )


def _sparse(layer: Layer, processor: Processor, threads: int, model: CostModel) -> Iterator[Candidate]:
    offsets, filters, kept = layer.taps.offsets, len(layer.weight), layer.kept
    channels = int(layer.taps.channels[-1]) + 1 if len(layer.taps.channels) else 1
    # A tile reads, of each channel, as many vectors as it has, and with windows also the rows around.
    spread = int(offsets.max() - offsets.min()) if len(offsets) else 0
    halo = spread - (channels - 1) * layer.input.plane_bytes
    common = SparseConvKernel(
        lanes=processor.lanes, tiles=Tiles.of(1, 1), input=layer.input, output=layer.output,
        residual=layer.residual, activation=layer.activation,
    )  # fmt: skip
    # All registers but those for the offset, the broadcast and the mask; with 32, larger tiles gain nothing.
    max_size = processor.registers - 3 if processor.registers == 16 else 14
    for tiling in _tilings(ceil_div(layer.output.extent, processor.lanes), max_size):
        channel_bytes = FLOAT_BYTES * processor.lanes * tiling.size + max(0, halo)
        for blocks in (1, 2, 3, 4, 6, 8, 12, 16):
            if blocks > max(1, channels // 8) or (blocks > 1 and layer.taps.filter_offsets is not None):
                break
            work = SparseWork(
                tiling.count * layer.output.images, tiling.size, kept, blocks * filters,
                channel_bytes * channels / blocks, unaligned=halo != 0,
            )  # fmt: skip
            parts = model.filter_parts(work, threads, filters)
            spec = replace(common, tiles=tiling, blocks=blocks, parts=parts)
            cycles = model.cycles(work) * imbalance(work.tiles * parts, threads)
            yield Candidate(spec, cycles, partial(_sparse_arrays, layer, spec), work)


def _sparse_arrays(layer: Layer, spec: SparseConvKernel) -> Constants:
    packed = spec.pack_weights(layer.weight, layer.bias, layer.taps)
    return {
        "stream": packed.stream,
        "rows": packed.rows,
        "table": packed.table,
        "mask": layer.output.mask(),
        "sizes": spec.sizes(),
    }


def _straight_line(layer: Layer, processor: Processor, threads: int, model: CostModel) -> Iterator[Candidate]:
    grouped = layer.taps.filter_offsets is not None
    dialect = DIALECTS.get(processor.kind)
    if dialect is None or grouped or refusal():
        return
    if _has_few_samples(layer):
        return
    vectors = ceil_div(layer.output.extent, processor.lanes)
    crossing = bool((layer.taps.offsets % (FLOAT_BYTES * dialect.lanes)).any())
    shapes = dialect.shapes(crossing=crossing)
    for shape in shapes:
        groups = ceil_div(len(layer.weight), shape.filters)
        loads = _tap_loads(layer, groups)
        base = StraightLineConvKernel(
            processor=processor.kind, input=layer.input, output=layer.output, residual=layer.residual,
            activation=layer.activation, shape=shape, groups=groups,
        )  # fmt: skip
        ways = []
        for spec in {split(base, *parts): None for parts in _splits(threads)}:
            work = StraightLineWork(
                vectors * layer.output.images, layer.kept, loads, len(layer.weight), crossing=crossing,
                aligned=shape.aligned, by_element=dialect.unit > 1, per_turn=shape.vectors,
                ranges=spec.ranges, spans=spec.spans,
                footprint=layer.input.own_bytes // (layer.input.images * spec.ranges),
            )  # fmt: skip
            ways.append((model.cycles(work) * imbalance(spec.items, threads), spec, work))
        ways.sort(key=lambda way: way[0])
        codes: dict[Shape, Callable[[], StraightLineCode]] = {}
        for cycles, spec, work in ways[: ceil_div(_MAX_SPLITS, len(shapes))]:
            emit = partial(spec.emit_blocks, layer.weight, layer.bias, layer.taps)
            emitted = codes.setdefault(spec.shape, cache(emit))
            yield Candidate(
                spec, cycles, partial(_straight_line_arrays, spec, emitted), work, partial(_code_of, emitted)
            )


def _splits(threads: int) -> list[tuple[int, int]]:
    """Return ways to split a layer into ranges of pixels and spans of filters, with work for all threads."""
    ranges, spans = (1, 4, 16, 64), (4, 8)
    if threads > 1:
        ranges, spans = (2 * threads, 4 * threads, 16 * threads, 64 * threads), (2 * threads, 4 * threads)
    return [*((count, 1) for count in ranges), *((1, count) for count in spans), (threads, threads)]


def _straight_line_arrays(spec: StraightLineConvKernel, emitted: Callable[[], StraightLineCode]) -> Constants:
    return spec.pack(emitted())


def _code_of(emitted: Callable[[], StraightLineCode]) -> NDArray[np.uint8]:
    return emitted().data


def _tap_loads(layer: Layer, groups: int) -> int:
    """Return how many taps any filter of a group has, in all groups."""
    edges = np.linspace(0, len(layer.weight), groups + 1).astype(np.int64)[:-1]
    return int(np.add.reduceat(layer.weight != 0, edges, dtype=np.int32).astype(np.bool_).sum())


def _dense(layer: Layer, processor: Processor, threads: int, model: CostModel) -> Iterator[Candidate]:
    filters, taps = layer.weight.shape
    if layer.taps.filter_offsets is not None or not taps:
        return
    vectors = ceil_div(layer.output.extent, processor.lanes)
    shapes = ((3, 4), (2, 6), (1, 8)) if processor.registers == 16 else ((4, 6), (3, 8), (2, 8), (1, 8))
    for tile, group in shapes:
        if tile > vectors:
            continue
        tiling = Tiles.of(vectors, tile)
        groups = ceil_div(filters, group)
        work = DenseWork(tiling.count * layer.output.images, tile, groups, group, taps)
        parts = model.filter_parts(work, threads, groups)
        spec = DenseConvKernel(
            lanes=processor.lanes, tiles=tiling, input=layer.input, output=layer.output,
            residual=layer.residual, activation=layer.activation, parts=parts, filter_group=group, taps=taps,
        )  # fmt: skip
        cycles = model.cycles(work) * imbalance(work.tiles * parts, threads)
        yield Candidate(spec, cycles, partial(_dense_arrays, layer, spec), work)


def _dense_arrays(layer: Layer, spec: DenseConvKernel) -> Constants:
    weights, bias = spec.pack_weights(layer.weight, layer.bias)
    return {
        "weights": weights,
        "bias": bias,
        "offsets": layer.taps.offsets.astype(np.int32),
        "mask": layer.output.mask(),
        "sizes": spec.sizes(),
    }


def _gemv(layer: Layer, processor: Processor, model: CostModel) -> Iterator[Candidate]:
    source, output = layer.input, layer.output
    # The lanes are filters.
    if _has_few_samples(layer):
        work = GemvWork(layer.weight.size)
        for vectors in (2, 4):
            spec = GemvKernel(processor.lanes, source, output, vectors, layer.activation)
            yield Candidate(spec, model.cycles(work), partial(_gemv_arrays, layer, spec), work)


def _has_few_samples(layer: Layer) -> bool:
    """Return whether a layer is a linear one, without a residual, of samples that would not fill a vector."""
    source, output = layer.input, layer.output
    one_row = source.images == source.height == output.height == 1 and source.width == output.width
    # The tap of a window of one pixel may be beside the pixel, in the padding.
    pixels = source.plane_bytes * np.arange(source.channels)
    linear = one_row and layer.taps.filter_offsets is None and np.array_equal(layer.taps.offsets, pixels)
    return linear and layer.residual is None and source.width <= MOST_SAMPLES


def _gemv_arrays(layer: Layer, spec: GemvKernel) -> Constants:
    weights, bias = spec.pack_weights(layer.weight, layer.bias)
    return {"weights": weights, "bias": bias}


def _sparse_gemv(layer: Layer, threads: int, model: CostModel) -> Iterator[Candidate]:
    filters, features = layer.weight.shape
    if not _has_few_samples(layer) or not SparseGemvKernel.fits(features, layer.input.width):
        return
    for parts in sorted({min(filters, threads), min(filters, 4 * threads)}):
        work = SparseGemvWork(layer.kept, filters, parts * features)
        spec = SparseGemvKernel(layer.input, layer.output, parts, layer.activation)
        arrays = partial(spec.pack_weights, layer.weight, layer.bias)
        yield Candidate(spec, model.cycles(work) * imbalance(parts, threads), arrays, work)


def _tilings(vectors: int, max_size: int) -> list[Tiles]:
    """Return ways to split a plane that are worth trying: into equal tiles, and into large ones."""
    sizes = {4, 6, 8, 10, 12, max_size} | {size for size in range(4, max_size + 1) if vectors % size == 0}
    return sorted({Tiles.of(vectors, size) for size in sizes}, key=lambda tiles: tiles.count)
