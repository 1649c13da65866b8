"""The benchmark of the cost model: regrets are those of the first choice, and the fit finds constants."""

from dataclasses import replace
from pathlib import Path

import pytest

from gpmt.runtime.lowering.cost_model import COST_MODEL, DenseWork, SparseWork

BENCHMARKS = Path(__file__).parent.parent.parent / "benchmarks"


@pytest.fixture(autouse=True)
def path(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)


def layer_of(seconds_by_work):
    import cost_model

    candidates = [cost_model.Measured(work, 1.0, seconds) for work, seconds in seconds_by_work.items()]
    return cost_model.LayerResult("network", 0.9, "weight", "conv", candidates)


def works():
    sparse = [
        SparseWork(10, vectors, kept, 64, footprint, unaligned)
        for vectors in (4, 8, 12)
        for kept in (10, 1000)
        for footprint in (1e3, 1e5, 1e6)
        for unaligned in (False, True)
    ]
    dense = [
        DenseWork(10, vectors, 8, filters, taps) for vectors, filters in ((4, 6), (1, 8)) for taps in (1, 500)
    ]
    return [*sparse, *dense]


def test_the_regret_is_that_of_the_models_first_choice():
    small, large = SparseWork(1, 8, 10, 1, 0.0, False), SparseWork(1, 8, 20, 1, 0.0, False)
    assert layer_of({small: 3.0, large: 2.0}).regret(COST_MODEL) == 0.5
    assert layer_of({small: 2.0, large: 3.0}).regret(COST_MODEL) == 0.0


def test_the_fit_finds_the_constants_behind_the_times():
    import cost_model

    true = replace(COST_MODEL, l2_factor=1.2, sparse_cycles_per_row=40.0, dense_cycles_per_group=90.0)
    layers = [layer_of({work: true.cycles(work) * 1e-9 for work in works()})]
    fitted = cost_model.fit(layers)
    samples = layers[0].candidates
    assert cost_model.squared_error(samples, COST_MODEL) > 1e-2
    assert cost_model.squared_error(samples, fitted) < 1e-4


def test_the_constants_in_use_are_kept_where_they_fit():
    import cost_model

    layers = [layer_of({work: COST_MODEL.cycles(work) * 1e-9 for work in works()})]
    assert cost_model.fit(layers) == COST_MODEL
