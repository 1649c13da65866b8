"""The cost model: what its terms add up to, and how it shares a layer among threads."""

from dataclasses import replace

import pytest

from gpmt.runtime.lowering.cost_model import (
    COST_MODEL,
    CostModel,
    DenseWork,
    GemvWork,
    SparseGemvWork,
    SparseWork,
    StraightLineWork,
    imbalance,
)

SPARSE = SparseWork(tiles=10, vectors=8, kept=1000, rows=64, footprint=1e3, unaligned=False)
DENSE = DenseWork(tiles=10, vectors=4, filter_groups=8, filters=6, taps=100)


def test_the_sparse_kernel_pays_for_weights_and_rows():
    assert COST_MODEL.cycles(SPARSE) == 10 * (1000 * 0.5 * (8 + 1.5) + 64 * (14 + 2.2 * 8))
    assert COST_MODEL.cycles(replace(SPARSE, vectors=1)) == 10 * (1000 * 2.0 + 64 * (14 + 2.2))


def test_weights_take_longer_when_inputs_do_not_fit_the_caches():
    by_weight = COST_MODEL.cycles(replace(SPARSE, rows=0))
    for footprint, factor in ((28 << 10, 1.9), (384 << 10, 2.6)):
        assert COST_MODEL.cycles(replace(SPARSE, rows=0, footprint=footprint - 1)) < factor * by_weight
        assert COST_MODEL.cycles(replace(SPARSE, rows=0, footprint=footprint)) == pytest.approx(
            factor * by_weight
        )
    assert COST_MODEL.cycles(replace(SPARSE, rows=0, unaligned=True)) == pytest.approx(1.35 * by_weight)


def test_the_dense_kernel_pays_for_multiply_adds_or_loads():
    assert COST_MODEL.cycles(DENSE) == 10 * 8 * (100 * 0.52 * 24 + 40)
    assert COST_MODEL.cycles(replace(DENSE, vectors=1, filters=1)) == 10 * 8 * (100 * 0.5 * 3 + 40)


def test_the_matrix_vector_kernel_pays_for_all_weights():
    assert COST_MODEL.cycles(GemvWork(1000)) == 400


STRAIGHT = StraightLineWork(vectors=10, kept=1000, loads=300, filters=64, crossing=True, aligned=False)


def test_straight_line_code_is_read_again_in_every_range():
    assert STRAIGHT.code_bytes == 11 * 1000 + 10 * 300
    one, four = (COST_MODEL.cycles(replace(STRAIGHT, ranges=ranges)) for ranges in (1, 4))
    assert four - one == pytest.approx(3 * STRAIGHT.code_bytes * 0.02)
    large = replace(STRAIGHT, kept=100_000, ranges=4)
    spans = [COST_MODEL.parts(replace(large, spans=count)) for count in (1, 2)]
    assert spans[0]["L3 cache or memory"] == pytest.approx(4 * large.code_bytes * 0.08)
    assert spans[1]["L2 cache"] == pytest.approx(4 * large.code_bytes * 0.02)
    far = replace(STRAIGHT, footprint=1 << 20)
    assert COST_MODEL.parts(far)["unaligned loads"] == pytest.approx(
        1.5 * COST_MODEL.parts(STRAIGHT)["unaligned loads"]
    )


@pytest.mark.parametrize(
    ("work", "bound"),
    [
        (SPARSE, "loads"),
        (replace(SPARSE, vectors=1), "dependent instructions"),
        (replace(SPARSE, kept=100), "ends of filters"),
        (replace(SPARSE, unaligned=True), "unaligned loads"),
        (replace(SPARSE, unaligned=True, footprint=100e3), "L2 cache"),
        (replace(SPARSE, footprint=1e6), "L3 cache or memory"),
        (DENSE, "multiply-adds"),
        (replace(DENSE, vectors=1, filters=1), "loads"),
        (GemvWork(10), "memory"),
        (SparseGemvWork(kept=1000, rows=10, copies=30), "loads"),
        (SparseGemvWork(kept=10, rows=100, copies=30), "ends of filters"),
        (STRAIGHT, "unaligned loads"),
        (replace(STRAIGHT, aligned=True), "multiply-adds"),
        (replace(STRAIGHT, crossing=False, kept=300), "loads"),
    ],
)
def test_what_bounds_a_layer(work, bound):
    assert COST_MODEL.bound(work) == bound
    assert COST_MODEL.cycles(work) == pytest.approx(sum(COST_MODEL.parts(work).values()))


def test_constants_can_be_replaced():
    assert CostModel(gemv_cycles_per_weight=2.0).cycles(GemvWork(10)) == 20


@pytest.mark.parametrize(
    ("tiles", "threads", "max_parts", "parts"),
    [
        (100, 1, 64, 1),
        (100, 4, 64, 1),
        (1, 1, 64, 1),
        (4, 4, 64, 4),
        (1, 4, 64, 16),
        (1, 4, 3, 2),
    ],
)
def test_filters_are_split_until_every_thread_has_four_items(tiles, threads, max_parts, parts):
    work = replace(SPARSE, tiles=tiles, kept=10_000_000)
    assert COST_MODEL.filter_parts(work, threads, max_parts) == parts


def test_small_layers_have_only_one_item_for_each_thread():
    work = replace(SPARSE, tiles=1, kept=1)
    assert COST_MODEL.filter_parts(work, 4, 64) == 4


def test_the_thread_with_most_items_decides():
    assert imbalance(4, 4) == 1
    assert imbalance(5, 4) == 8 / 5


def test_weights_that_are_loaded_in_fours_serve_all_vectors_of_a_turn():
    work = StraightLineWork(10, 1000, 300, 60, crossing=True, aligned=False, by_element=True)
    assert COST_MODEL.cycles(work) == pytest.approx(10 * (1000 * (0.55 + 0.15 / 4) + 300 * 0.3 + 60 * 3.0))
    saved = COST_MODEL.cycles(work) - COST_MODEL.cycles(replace(work, per_turn=2))
    assert saved == pytest.approx(10 * 1000 * 0.15 / 8)
