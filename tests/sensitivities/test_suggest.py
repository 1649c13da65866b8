from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.sensitivities.examples import example, weights

import gpmt
from gpmt.core.budget.budget import pruned_count
from gpmt.errors import BudgetError, CalibrationError


def kept(plan: gpmt.Plan) -> list[int]:
    return [row.kept for row in plan.blocks]


def test_the_flattest_parts_are_pruned_first() -> None:
    # Slopes: b to 50 %: 0.25/20, then 0.25/16; a to 50 %: 1/10, then 2.5/8.
    found = example()
    assert kept(found.suggest(weights(), "1/3")) == [20, 20]
    assert kept(found.suggest(weights(), 0.6)) == [20, 4]
    assert kept(found.suggest(weights(), 0.7)) == [14, 4]
    assert kept(found.suggest(weights(), 0.9)) == [2, 4]


def test_a_plan_file_prunes_exactly_the_total(tmp_path: Path) -> None:
    tensors = weights()
    plan = example().suggest(tensors, 0.71, min_kept=6)
    assert (plan.pruned, kept(plan), str(plan.sparsity), plan.min_kept) == (42, [12, 6], "71/100", 6)
    assert [row.binds for row in plan.blocks] == [False, True]
    plan.save(tmp_path / "plan.json")
    loaded = gpmt.Plan.load(tmp_path / "plan.json")
    assert (kept(loaded), loaded.sparsity, loaded.min_kept) == ([12, 6], plan.sparsity, 6)
    gpmt.prune_(tensors, plan=loaded)
    assert [int(tensor.count_nonzero()) for tensor in tensors.values()] == [12, 6]
    assert torch.equal(tensors["a.weight"].flatten()[-12:], torch.arange(9.0, 21))


@settings(max_examples=25)
@given(st.fractions(0, "9/10", max_denominator=97), st.integers(0, 30))
def test_the_total_is_exact_and_floors_hold(sparsity, minimum: int) -> None:
    found = example()
    floors = [min(20, minimum), min(40, minimum)]
    room = 60 - max(floors[0], 2) - max(floors[1], 4)
    if pruned_count(sparsity, 60) > room:
        with pytest.raises(BudgetError):
            found.suggest(weights(), sparsity, min_kept=minimum)
        return
    plan = found.suggest(weights(), sparsity, min_kept=minimum)
    assert plan.pruned == pruned_count(sparsity, 60)
    assert all(number >= floor for number, floor in zip(kept(plan), floors, strict=True))


def test_what_was_not_measured_stays_dense() -> None:
    part = replace(example(), blocks=("b.weight",), curves=example().curves[1:])
    assert kept(part.suggest(weights(), 0.5)) == [20, 10]
    with pytest.raises(BudgetError) as caught:
        part.suggest(weights(), 0.8, min_kept=5)
    assert str(caught.value) == (
        "sparsity 0.8 prunes 48 of 60 weights, but the blocks may lose 35 (none beyond the 90% that was measured, 1 "
        "not at all, as they were not measured, and each with its minimum of 5); ask for a sparsity of at most "
        "0.5833, or measure more"
    )


def test_what_cannot_be_is_refused() -> None:
    found = example()
    with pytest.raises(BudgetError, match=r"the minimum of 30 in each of 2 tensors needs 50"):
        found.suggest(weights(), 0.5, min_kept=30)
    with pytest.raises(BudgetError, match=r"^within has no meaning for a plan from a sensitivity"):
        found.suggest(weights(), 0.5, within="row")
    with pytest.raises(CalibrationError, match=r"^1 of 2 blocks are still to be measured"):
        replace(found, curves=found.curves[:1]).suggest(weights(), 0.5)
    with pytest.raises(
        CalibrationError, match=r"^a\.weight was measured with 20 weights, but is not a block"
    ):
        found.suggest(weights() | {"a.weight": torch.ones(2, 2)}, 0.5)
