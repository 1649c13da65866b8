"""Attention of several heads on vectors: planes of features, in which tokens are the columns.

A head has some neighbouring features of each value. So the scores of a key with a vector of queries are multiply-adds
of vectors of queries with one broadcast element of the key; softmax runs over keys, for all queries of a vector at
once; and a feature of the output is multiply-adds of the probabilities with broadcast elements of the values:

    score[j] = Σ_d key[d, j] · query[d]        output[d] = Σ_j value[d, j] · exp(score[j] - max) / Σ_j exp(...)

Loops: tile of some vectors of queries of one head and sample → block of keys → features; then keys; then block of
features → keys. The scores of a tile are on the thread's stack.

    query, key, value  vectors, Planes(1, features, 1, samples · tokens), from the first feature of head 0 on
    output             vectors, Planes(1, heads · size, 1, samples · queries)
    mask, bias         what is added to scores, as vectors: planes of keys; or not given

    item = (sample · heads + head) · tiles + tile

Reads whole vectors behind the last query of a feature, and of what is added.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from llvmlite import ir

from gpmt.arithmetic import ceil_div, round_up
from gpmt.runtime.codegen.activations import exp_negated
from gpmt.runtime.codegen.emitter import F32, I32, I64, Emitter, constant
from gpmt.runtime.codegen.kernel import FixedSizeKernel
from gpmt.runtime.codegen.loops import block_loop
from gpmt.runtime.codegen.tiles import Tiles, emit_tile
from gpmt.runtime.layout.planes import CACHE_LINE, FLOAT_BYTES, Planes

_STACK_BYTES = 256 << 10  # of scores; threads have 512 KiB at least
_MOST_NEGATIVE = -3.4028234663852886e38


@dataclass(frozen=True)
class MaskLayout:
    """Where the kernel finds what is added to scores.

    Attributes:
        key_bytes: from a key to the next.
        samples: after so many samples it repeats.
        heads: 1, or one mask for each head.
        queries: 1, or one column for each query; the columns are (sample · heads + head) · queries + query.
    """

    key_bytes: int
    samples: int
    heads: int
    queries: int


@dataclass(frozen=True)
class AttentionKernel(FixedSizeKernel):
    """Attention.

    Attributes:
        lanes: elements of a vector register.
        query, key, value, output: layouts.
        samples: in each of them.
        heads: of equal size.
        scale: of the scores.
        mask, bias: what is added to these, or None.
        causal: whether a query sees only the keys up to its own place.
    """

    ARGS: ClassVar[tuple[str, ...]] = ("query", "key", "value", "output", "mask", "bias")
    OPTIONAL_ARGS: ClassVar[tuple[str, ...]] = ("mask", "bias")

    lanes: int
    query: Planes
    key: Planes
    value: Planes
    output: Planes
    samples: int
    heads: int
    scale: float
    mask: MaskLayout | None = None
    bias: MaskLayout | None = None
    causal: bool = False

    @property
    def queries(self) -> int:
        """Queries of a sample."""
        return self.output.width // self.samples

    @property
    def keys(self) -> int:
        """Keys of a sample."""
        return self.key.width // self.samples

    @property
    def size(self) -> int:
        """Features of a head."""
        return self.output.channels // self.heads

    @property
    def _tiles(self) -> Tiles:
        largest = 4 if self.lanes >= 16 else 2
        on_stack = _STACK_BYTES // (FLOAT_BYTES * self.lanes * self.keys)
        return Tiles.of(ceil_div(self.queries, self.lanes), max(1, min(largest, on_stack)))

    @property
    def items(self) -> int:
        """Number of work items."""
        return self.samples * self.heads * self._tiles.count

    def emit(self) -> str:
        """Return the kernel's LLVM IR."""
        e = Emitter(self.lanes, self.ARGS)
        tiles = self._tiles
        rest, tile = e.divmod(e.item, tiles.count)
        sample, head = e.divmod(rest, self.heads)
        with e.builder.goto_entry_block():
            scores = e.builder.ptrtoint(e.builder.alloca(e.vector, self.keys * tiles.size), I64)

        def body(start: ir.Value, vectors: int) -> None:
            _TileEmitter(e, self, sample, head, e.mul(start, self.lanes), vectors, scores).emit()

        emit_tile(e, tile, constant(tiles.large), tiles.size, tiles.uneven, body)
        return e.text()


class _TileEmitter:
    """Writes the code for a tile of queries.

    Args:
        spec: the kernel.
        sample, head: of the tile.
        first: its first query.
        vectors: of queries.
        scores: address of the memory for [keys, vectors].
    """

    def __init__(
        self,
        e: Emitter,
        spec: AttentionKernel,
        sample: ir.Value,
        head: ir.Value,
        first: ir.Value,
        vectors: int,
        scores: ir.Value,
    ) -> None:
        self.e, self.spec, self.sample, self.head, self.vectors = e, spec, sample, head, vectors
        self.first, self.scores = first, scores
        self.vector_bytes = FLOAT_BYTES * spec.lanes
        self.indices = [e.indices(e.add(first, t * spec.lanes)) for t in range(vectors)]
        # Registers for accumulators, beside those of a vector of queries and a broadcast.
        self.block = max(1, (24 if spec.lanes >= 16 else 10) // vectors)
        self.query = self._address("query", spec.query, spec.queries, first)
        self.key = self._address("key", spec.key, spec.keys)
        self.value = self._address("value", spec.value, spec.keys)
        self.output = self._address("output", spec.output, spec.queries, first)

    def _address(self, arg: str, planes: Planes, tokens: int, first: ir.Value | None = None) -> ir.Value:
        """Return the address of a token of the sample in the head's first feature."""
        e = self.e
        plane = e.add(e.arg(arg), e.mul(self.head, self.spec.size * planes.plane_bytes))
        address = e.add(plane, e.mul(self.sample, FLOAT_BYTES * tokens))
        return address if first is None else e.add(address, e.mul(first, FLOAT_BYTES))

    def emit(self) -> None:
        """Write the code."""
        e, spec = self.e, self.spec
        maxima = [e.variable(e.splat(_MOST_NEGATIVE)) for _ in range(self.vectors)]
        block_loop(
            e, 0, spec.keys, spec.keys, self.block, lambda key, count: self._scores(key, count, maxima)
        )
        largest = [e.builder.load(variable) for variable in maxima]
        inverses = self._exponentials(largest)
        block_loop(
            e, 0, spec.size, spec.size, self.block,
            lambda feature, count: self._weighted(feature, count, inverses),
        )  # fmt: skip

    def _products(
        self,
        count: int,
        steps: int,
        vectors_at: tuple[ir.Value, int],
        scalars_at: tuple[ir.Value, int, int],
    ) -> list[list[ir.Value]]:
        """Return Σ scalar · vector over `steps`, for `count` scalars and all vectors.

        Args:
            vectors_at: address of the first vectors, and bytes from a step to the next.
            scalars_at: address of the first scalar, bytes from a step to the next, bytes from a scalar to the next.
        """
        e = self.e
        totals = [[e.variable(e.splat(0.0)) for _ in range(self.vectors)] for _ in range(count)]
        with e.loop(0, steps) as step:
            place = e.add(vectors_at[0], e.mul(step, vectors_at[1]))
            vectors = [e.load(place, e.vector, self.vector_bytes * t) for t in range(self.vectors)]
            scalar = e.add(scalars_at[0], e.mul(step, scalars_at[1]))
            for i, row in enumerate(totals):
                factor = e.splat(e.load(scalar, F32, i * scalars_at[2]))
                for vector, total in zip(vectors, row, strict=True):
                    e.builder.store(e.fma(vector, factor, e.builder.load(total)), total)
        return [[e.builder.load(total) for total in row] for row in totals]

    def _scores(self, key: ir.Value, count: int, maxima: Sequence[ir.Value]) -> None:
        """Write the scores of some keys, and keep the largest."""
        e, spec, builder = self.e, self.spec, self.e.builder
        rows = self._products(
            count, spec.size, (self.query, spec.query.plane_bytes),
            (e.add(self.key, e.mul(key, FLOAT_BYTES)), spec.key.plane_bytes, FLOAT_BYTES),
        )  # fmt: skip
        scale = e.splat(spec.scale)
        for i, row in enumerate(rows):
            index = e.add(key, i)
            place = e.add(self.scores, e.mul(index, self.vectors * self.vector_bytes))
            for t, total in enumerate(row):
                score = self._masked(builder.fmul(total, scale), index, t)
                e.store(score, place, self.vector_bytes * t)
                before = builder.load(maxima[t])
                larger = builder.fcmp_unordered(">", score, before)
                builder.store(builder.select(larger, score, before), maxima[t])

    def _masked(self, score: ir.Value, key: ir.Value, t: int) -> ir.Value:
        e, spec, builder = self.e, self.spec, self.e.builder
        for arg, mask in (("mask", spec.mask), ("bias", spec.bias)):
            if mask is not None:
                score = builder.fadd(score, self._added(arg, mask, key, t))
        if spec.causal:
            hidden = builder.icmp_signed("<", self.indices[t], self._splat_index(key))
            score = builder.select(hidden, e.splat(float("-inf")), score)
        return score

    def _added(self, arg: str, mask: MaskLayout, key: ir.Value, t: int) -> ir.Value:
        """Return what is added to the scores of a key and a vector of queries."""
        e = self.e
        column: ir.Value = constant(0)
        if mask.samples > 1:
            column = e.mul(e.divmod(self.sample, mask.samples)[1], mask.heads * mask.queries)
        if mask.heads > 1:
            column = e.add(column, e.mul(self.head, mask.queries))
        if mask.queries > 1:
            column = e.add(column, e.add(self.first, t * self.spec.lanes))
        place = e.add(e.arg(arg), e.add(e.mul(key, mask.key_bytes), e.mul(column, FLOAT_BYTES)))
        return e.load(place, e.vector) if mask.queries > 1 else e.splat(e.load(place, F32))

    def _splat_index(self, index: ir.Value) -> ir.Value:
        e, builder = self.e, self.e.builder
        single = builder.insert_element(
            ir.Constant(e.mask, ir.Undefined), builder.trunc(index, I32), ir.Constant(I32, 0)
        )
        zeros = ir.Constant(e.mask, [0] * e.lanes)
        return builder.shuffle_vector(single, ir.Constant(e.mask, ir.Undefined), zeros)

    def _exponentials(self, largest: Sequence[ir.Value]) -> list[ir.Value]:
        """Put exp(score - largest) in the place of scores, and return the inverses of their sums."""
        e, spec, builder = self.e, self.spec, self.e.builder
        sums = [e.variable(e.splat(0.0)) for _ in largest]
        hidden = spec.causal or spec.mask is not None or spec.bias is not None
        with e.loop(0, spec.keys) as key:
            place = e.add(self.scores, e.mul(key, self.vectors * self.vector_bytes))
            for t, top in enumerate(largest):
                score = e.load(place, e.vector, self.vector_bytes * t)
                power = exp_negated(e, builder.fsub(top, score))
                if hidden:
                    nothing = builder.fcmp_ordered("==", score, e.splat(float("-inf")))
                    power = builder.select(nothing, e.splat(0.0), power)
                e.store(power, place, self.vector_bytes * t)
                builder.store(builder.fadd(builder.load(sums[t]), power), sums[t])
        inverses = []
        for variable in sums:
            total = builder.load(variable)
            inverse = builder.fdiv(e.splat(1.0), total)
            # Queries that see no key at all get zeros, as in PyTorch.
            empty = builder.fcmp_ordered("==", total, e.splat(0.0))
            inverses.append(builder.select(empty, e.splat(0.0), inverse) if hidden else inverse)
        return inverses

    def _weighted(self, feature: ir.Value, count: int, inverses: Sequence[ir.Value]) -> None:
        """Write some features of the output."""
        e, spec, builder = self.e, self.spec, self.e.builder
        rows = self._products(
            count, spec.keys, (self.scores, self.vectors * self.vector_bytes),
            (e.add(self.value, e.mul(feature, spec.value.plane_bytes)), FLOAT_BYTES, spec.value.plane_bytes),
        )  # fmt: skip
        queries = ir.Constant(e.mask, [spec.queries] * e.lanes)
        for i, row in enumerate(rows):
            plane = e.add(self.output, e.mul(e.add(feature, i), spec.output.plane_bytes))
            for t, total in enumerate(row):
                inside = builder.icmp_signed("<", self.indices[t], queries)
                value = builder.select(inside, builder.fmul(total, inverses[t]), e.splat(0.0))
                place = e.add(plane, self.vector_bytes * t)
                if spec.samples == 1:
                    e.store(value, place)
                else:
                    e.masked_store(value, place, self._may_write(t, inside))

    def _may_write(self, t: int, inside: ir.Value) -> ir.Value:
        """Return which elements belong to the sample; for the last one, also the padding behind it."""
        e, spec, builder = self.e, self.spec, self.e.builder
        behind = round_up(spec.output.width, CACHE_LINE) - (spec.samples - 1) * spec.queries
        in_line = builder.icmp_signed("<", self.indices[t], ir.Constant(e.mask, [behind] * e.lanes))
        last = builder.icmp_signed("==", self.sample, constant(spec.samples - 1))
        return builder.select(last, in_line, inside)
