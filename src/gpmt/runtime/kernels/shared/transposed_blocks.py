"""Blocks of samples and features transposed in registers, for kernels between tensors and vectors.

Vectors have the layout Planes(images=1, channels=features, height=1, width=samples): one plane for each feature. An
item has some features of some cache lines of samples.
"""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir

from gpmt.arithmetic import ceil_div
from gpmt.runtime.codegen.emitter import Emitter, constant
from gpmt.runtime.codegen.loops import block_loop
from gpmt.runtime.codegen.shuffles import transpose
from gpmt.runtime.codegen.work_split import Item, WorkSplit
from gpmt.runtime.layout.planes import CACHE_LINE, Planes

Block = Callable[[ir.Value, int, ir.Value, int], None]
"""Writes the code for a block, given its first sample, its samples, its first feature, and its features."""


def split_vectors(vectors: Planes) -> WorkSplit:
    """Return how the work on vectors is split: features as channels, cache lines of samples as rows."""
    lines = ceil_div(vectors.width, CACHE_LINE)
    return WorkSplit.of(1, vectors.channels, lines, CACHE_LINE, channel_multiple=CACHE_LINE)


def vectors_loop(e: Emitter, item: Item, vectors: Planes, body: Block) -> None:
    """Write a loop over the item's cache lines of samples, and in each over blocks of at most `lanes` × `lanes`."""

    def features(sample: ir.Value, samples: int) -> None:
        block_loop(
            e, *item.channels, vectors.channels, e.lanes,
            lambda feature, features: body(sample, samples, feature, features),
        )  # fmt: skip

    with e.loop(*item.rows) as line:
        samples_loop(e, line, vectors.width, features)


def samples_loop(e: Emitter, line: ir.Value, samples: int, body: Callable[[ir.Value, int], None]) -> None:
    """Write a loop over blocks of samples in a cache line; the body takes the first sample and how many there are."""
    first = e.mul(line, CACHE_LINE)
    stop = e.minimum(e.add(first, CACHE_LINE), constant(samples))
    block_loop(e, first, stop, samples, e.lanes, body)


def store_transposed(
    e: Emitter, samples: list[ir.Value], target: ir.Value, vectors: Planes, features: int
) -> None:
    """Write samples, given as vectors of features, to planes of features at an address; missing samples are zeros."""
    zeros = [e.splat(0.0)] * (e.lanes - len(samples))
    for i, column in enumerate(transpose(e, samples + zeros)[:features]):
        e.store(column, target, i * vectors.plane_bytes)
