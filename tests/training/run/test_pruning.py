"""Schedule and method reach the Pruner, and what cannot work fails before the dense training."""

from pathlib import Path

import pytest
from tests.training.run.runs import short_recipe

from gpmt.errors import BudgetError
from gpmt.training.run.run import run


def test_a_budget_too_short_for_a_schedule_fails_before_anything_is_trained(tmp_path: Path):
    recipe = short_recipe("schedule=ac-dc", "finetune.epochs=1", "finetune.batch_size=320")
    with pytest.raises(BudgetError, match="AC/DC needs at least"):
        run(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "overrides",
    [["within=row", "sparsity=0.5"], ["pattern=2:4", "sparsity=0.5", 'exclude=[stem.weight, "*depthwise*"]']],
)
def test_rows_and_patterns_are_pruned_and_verified(tmp_path: Path, overrides: list[str]):
    recipe = short_recipe("finetune.epochs=1", "dense.epochs=1", "min_kept=0", "sparsity=0.5", *overrides)
    metrics = run(recipe, tmp_path / "run")
    assert metrics["verified"]
    assert "method hard, schedule one-shot" in (tmp_path / "run" / "README.md").read_text()
