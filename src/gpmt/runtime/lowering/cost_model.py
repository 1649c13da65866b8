"""What a way to compute a layer should cost, in cycles.

The model decides which candidates are measured and, without measuring, which one is used.

Loads and multiply-adds per cycle are those of current x86 and ARM cores; the other constants were fitted by hand on
earlier machines. `benchmarks/cost_model.py` measures the candidates of pruned networks' layers, prints the constants
that would fit them, and the *regret*: how much longer the model's first choice takes than the fastest measured
candidate of a layer. It changed none of these constants:

    python benchmarks/cost_model.py     # ResNet-50 at 80, 90 and 95 %: 84 layers, up to 24 candidates each
    Intel(R) Xeon(R) Processor (Sapphire Rapids class, AVX-512), 2 cores, 1 thread, 2026-11-28

    regret                      in use     fitted to these layers
    median                       8.7 %                      8.8 %
    worst                      100.3 %                    100.3 %
    mean, weighted by time      23.8 %                     23.1 %

The largest regrets are those of convolutions with a stride, whose footprint the model takes for too large.
"""

from __future__ import annotations

from dataclasses import dataclass

from gpmt.arithmetic import round_up

MULTIPLY_ADDS = "multiply-adds"
LOADS = "loads"
UNALIGNED_LOADS = "unaligned loads"
L2_CACHE = "L2 cache"
BEYOND_L2 = "L3 cache or memory"
MEMORY = "memory"
DEPENDENCIES = "dependent instructions"
ENDS_OF_FILTERS = "ends of filters"


@dataclass(frozen=True)
class SparseWork:
    """What the sparse kernel does for one layer.

    Attributes:
        tiles: in all images.
        vectors: of a tile, each in a register.
        kept: weights that are not zero.
        rows: filters, once for each block of input channels.
        footprint: bytes of inputs that a tile reads for a block of channels.
        unaligned: whether taps read inputs at other alignments than the outputs have.
    """

    tiles: int
    vectors: int
    kept: int
    rows: int
    footprint: float
    unaligned: bool


@dataclass(frozen=True)
class DenseWork:
    """What the dense kernel does for one layer.

    Attributes:
        tiles: in all images.
        vectors: of a tile.
        filter_groups: groups of filters that are computed at once.
        filters: of such a group; with the vectors of a tile they are the accumulators.
        taps: weights of a filter.
    """

    tiles: int
    vectors: int
    filter_groups: int
    filters: int
    taps: int


@dataclass(frozen=True)
class GemvWork:
    """What the matrix-vector kernel does for one layer.

    Attributes:
        weights: zeros included.
    """

    weights: int


@dataclass(frozen=True)
class SparseGemvWork:
    """What the sparse matrix-vector kernel does for one layer.

    Attributes:
        kept: weights that are not zero.
        rows: filters.
        copies: features that are copied, of all items.
    """

    kept: int
    rows: int
    copies: int


@dataclass(frozen=True)
class StraightLineWork:
    """What straight-line code does for one layer.

    Attributes:
        vectors: of the output's planes, in all images.
        kept: weights that are not zero.
        loads: vectors of pixels that are loaded for one vector of the output.
        filters: of the layer.
        crossing: whether taps read inputs at other alignments than the outputs have.
        aligned: whether these are joined from two lines.
        by_element: whether weights are loaded several to a register, as for NEON, and not broadcast one by one.
        per_turn: vectors of the output that such a register serves.
        ranges, spans: parts of the plane, for each of which all code runs, and of the filters.
        footprint: bytes of the input that a range reads.
    """

    vectors: int
    kept: int
    loads: int
    filters: int
    crossing: bool
    aligned: bool
    by_element: bool = False
    per_turn: int = 1
    ranges: int = 1
    spans: int = 1
    footprint: int = 0

    @property
    def code_bytes(self) -> int:
        """Bytes of code and weights: 11 of a multiply-add, 10 of a load."""
        return 11 * self.kept + 10 * self.loads


Work = SparseWork | DenseWork | GemvWork | SparseGemvWork | StraightLineWork


@dataclass(frozen=True)
class CostModel:
    """The constants of the model; cycles are those of one core.

    Attributes:
        sparse_cycles_per_load: of a vector load in the sparse kernel; cores load two vectors in a cycle.
        sparse_loads_per_weight: of a weight besides one load for each vector of the tile: its offset (half a load, as
            it is a scalar) and its broadcast.
        sparse_min_cycles_per_weight: of a weight, for small tiles; the length of the loop's chain of dependent
            instructions.
        sparse_cycles_per_row: of a row's start and end, for each tile.
        sparse_cycles_per_row_vector: of a row's start and end, for each vector of the tile: bias or load, residual,
            activation, mask and store.
        l1_bytes: footprint up to which inputs stay in the L1 cache: 28 KiB of 32, as weights and outputs pass too.
        l2_bytes: footprint up to which inputs stay in the L2 cache: less than its 512 KiB, for the same reason.
        l2_factor: times as many cycles per weight, with inputs from the L2 cache.
        beyond_l2_factor: times as many cycles per weight, with inputs from beyond the L2 cache.
        unaligned_factor: times as many cycles per weight, with loads that cross cache lines.
        dense_cycles_per_fma: of a multiply-add of vectors in the dense kernel; cores do two in a cycle.
        dense_cycles_per_load: of a vector load or a broadcast in the dense kernel.
        dense_cycles_per_group: of the start and end of a tile and group of filters.
        gemv_cycles_per_weight: of a weight in the matrix-vector kernel, read once from memory.
        sparse_gemv_cycles_per_weight: of a weight in the sparse one: its index, its value and its feature are loads.
        sparse_gemv_cycles_per_row: of a row's start and end there.
        sparse_gemv_cycles_per_copy: of a feature that is copied there.
        straight_cycles_per_weight: of a multiply-add in straight-line code: a broadcast and half a multiply-add.
        straight_cycles_per_load: of a vector of pixels.
        straight_crossing_factor: times as many, for one that crosses cache lines.
        straight_cycles_per_filter: of a filter's start and end: bias, activation, mask and store.
        by_element_cycles_per_weight: of a multiply-add by element. This and the next three are guesses, of a core
            that does two multiply-adds in a cycle, and most of the loads in their time; none was measured.
        by_element_cycles_per_quad: of a load of four weights, once a turn.
        by_element_cycles_per_load: of a vector of pixels, with its share of the moves of addresses.
        by_element_cycles_per_filter: of a filter's start and end.
        straight_cycles_per_byte: of code and weights, for each range, where those of a span fit the L2 cache.
        straight_far_cycles_per_byte: where they do not.
        straight_l2_bytes: of code, or of inputs, up to which they stay in the L2 cache.
        straight_far_factor: times as many cycles for a load, with inputs from beyond the L2 cache.
        min_item_cycles: of an item; several microseconds, against which the cost of claiming one is small.
        items_per_thread: at least, as far as `min_item_cycles` allows: no thread then waits long for the slowest.
    """

    sparse_cycles_per_load: float = 0.5
    sparse_loads_per_weight: float = 1.5
    sparse_min_cycles_per_weight: float = 2.0
    sparse_cycles_per_row: float = 14.0
    sparse_cycles_per_row_vector: float = 2.2
    l1_bytes: int = 28 << 10
    l2_bytes: int = 384 << 10
    l2_factor: float = 1.9
    beyond_l2_factor: float = 2.6
    unaligned_factor: float = 1.35
    dense_cycles_per_fma: float = 0.52
    dense_cycles_per_load: float = 0.5
    dense_cycles_per_group: float = 40.0
    gemv_cycles_per_weight: float = 0.4
    sparse_gemv_cycles_per_weight: float = 1.5
    sparse_gemv_cycles_per_row: float = 20.0
    sparse_gemv_cycles_per_copy: float = 2.0
    straight_cycles_per_weight: float = 0.6
    straight_cycles_per_load: float = 1.6
    straight_crossing_factor: float = 1.9
    straight_cycles_per_filter: float = 4.0
    by_element_cycles_per_weight: float = 0.55
    by_element_cycles_per_quad: float = 0.15
    by_element_cycles_per_load: float = 0.3
    by_element_cycles_per_filter: float = 3.0
    straight_cycles_per_byte: float = 0.02
    straight_far_cycles_per_byte: float = 0.08
    straight_l2_bytes: int = 768 << 10
    straight_far_factor: float = 1.5
    min_item_cycles: float = 25_000.0
    items_per_thread: int = 4

    def cycles(self, work: Work) -> float:
        """Return the cycles of all threads together."""
        return sum(self.parts(work).values())

    def parts(self, work: Work) -> dict[str, float]:
        """Return the cycles of all threads together, by what they are spent on."""
        match work:
            case SparseWork():
                bound, per_weight = self._sparse_weight(work)
                per_row = self.sparse_cycles_per_row + self.sparse_cycles_per_row_vector * work.vectors
                return {
                    bound: work.tiles * work.kept * per_weight,
                    ENDS_OF_FILTERS: work.tiles * work.rows * per_row,
                }
            case DenseWork():
                multiply_adds = self.dense_cycles_per_fma * work.vectors * work.filters
                loads = self.dense_cycles_per_load * (work.vectors + work.filters + 1)
                groups = work.tiles * work.filter_groups
                return {
                    MULTIPLY_ADDS if multiply_adds >= loads else LOADS: groups
                    * work.taps
                    * max(multiply_adds, loads),
                    ENDS_OF_FILTERS: groups * self.dense_cycles_per_group,
                }
            case GemvWork():
                return {MEMORY: work.weights * self.gemv_cycles_per_weight}
            case SparseGemvWork():
                return {
                    LOADS: work.kept * self.sparse_gemv_cycles_per_weight
                    + work.copies * self.sparse_gemv_cycles_per_copy,
                    ENDS_OF_FILTERS: work.rows * self.sparse_gemv_cycles_per_row,
                }
            case StraightLineWork(by_element=True):
                quads = work.kept / 4 / work.per_turn * self.by_element_cycles_per_quad
                return {
                    MULTIPLY_ADDS: work.vectors * work.kept * self.by_element_cycles_per_weight,
                    LOADS: work.vectors * (work.loads * self.by_element_cycles_per_load + quads),
                    ENDS_OF_FILTERS: work.vectors * work.filters * self.by_element_cycles_per_filter,
                }
            case StraightLineWork():
                crossing = work.crossing and not work.aligned
                load = self.straight_cycles_per_load * (self.straight_crossing_factor if crossing else 1.0)
                if work.footprint > self.straight_l2_bytes:
                    load *= self.straight_far_factor
                far = work.code_bytes > work.spans * self.straight_l2_bytes
                byte = self.straight_far_cycles_per_byte if far else self.straight_cycles_per_byte
                return {
                    MULTIPLY_ADDS: work.vectors * work.kept * self.straight_cycles_per_weight,
                    UNALIGNED_LOADS if crossing else LOADS: work.vectors * work.loads * load,
                    ENDS_OF_FILTERS: work.vectors * work.filters * self.straight_cycles_per_filter,
                    BEYOND_L2 if far else L2_CACHE: work.ranges * work.code_bytes * byte,
                }

    def bound(self, work: Work) -> str:
        """Return what most of the cycles are spent on."""
        parts = self.parts(work)
        return max(parts, key=lambda bound: parts[bound])

    def _sparse_weight(self, work: SparseWork) -> tuple[str, float]:
        """Return what bounds a weight of the sparse kernel, and its cycles for each tile."""
        bound, cycles = LOADS, self.sparse_cycles_per_load * (work.vectors + self.sparse_loads_per_weight)
        if cycles < self.sparse_min_cycles_per_weight:
            bound, cycles = DEPENDENCIES, self.sparse_min_cycles_per_weight
        if work.unaligned:
            bound, cycles = UNALIGNED_LOADS, cycles * self.unaligned_factor
        if work.footprint >= self.l2_bytes:
            return BEYOND_L2, cycles * self.beyond_l2_factor
        if work.footprint >= self.l1_bytes:
            return L2_CACHE, cycles * self.l2_factor
        return bound, cycles

    def filter_parts(self, work: SparseWork | DenseWork, threads: int, max_parts: int) -> int:
        """Return into how many parts the filters are split, so that threads share a layer evenly.

        Args:
            work: of the whole layer.
            threads: that share it.
            max_parts: the filters, or groups of filters, that can be distributed.
        """
        cycles, parts = self.cycles(work), 1
        while threads > 1 and work.tiles * parts < self.items_per_thread * threads and 2 * parts <= max_parts:
            if cycles / (work.tiles * parts * 2) < self.min_item_cycles and work.tiles * parts >= threads:
                break
            parts *= 2
        return parts


def imbalance(items: int, threads: int) -> float:
    """Return how many times as long a step takes as if all threads had equally many items.

    >>> imbalance(3, 2)
    1.3333333333333333
    """
    return round_up(items, threads) / items


COST_MODEL = CostModel()
"""The constants in use."""
