"""Learning rates that fit the budget, and how a run chooses and records them."""

import math
from pathlib import Path

import pytest
import torch
from tests.training.run.runs import digits_recipe, interrupt, same_weights, short_recipe

from gpmt.core.schedule.schedule import Gradual
from gpmt.training.recipes.files import load_recipe
from gpmt.training.recipes.schema import Training
from gpmt.training.run.learning_rates import chosen_rates, given_rates, relative_change
from gpmt.training.run.run import Interrupted, run


def of(rates, *, epochs: int, steps: int) -> list[float]:
    return [rates(epoch, step, steps) for epoch in range(epochs) for step in range(steps)]


@pytest.mark.parametrize(
    ("change", "epochs", "factor"), [(0.8, 1, 0.8), (0.8, 9, 0.9), (1.7, 1, 1.0), (0.8, 30, 1.0)]
)
def test_one_shot_pruning_starts_where_what_was_pruned_and_the_budget_ask_for(
    change: float, epochs: int, factor: float
):
    recipe = load_recipe("digits", ["lr=auto", f"finetune.epochs={epochs}", "dense.lr=0.1"])
    rates = of(chosen_rates(recipe, change), epochs=epochs, steps=20)
    warmup = 2 * epochs
    assert max(rates) == rates[warmup - 1] == pytest.approx(0.1 * factor)
    assert rates[0] == pytest.approx(0.1 * factor / warmup)
    falls = [before - after for before, after in zip(rates[warmup:], rates[warmup + 1 :], strict=False)]
    assert falls == pytest.approx([falls[0]] * len(falls))
    assert rates[-1] == pytest.approx(falls[0])  # the next would be 0


def test_the_dense_epochs_are_not_known_of_a_checkpoint():
    recipe = load_recipe("digits", ["lr=auto", "dense.epochs=0", "checkpoint=x.pt", "dense.lr=0.2"])
    assert max(of(chosen_rates(recipe, 0.25), epochs=5, steps=20)) == pytest.approx(0.05)


def test_fine_tuning_that_reaches_back_past_the_last_drop_is_rewound():
    steps = ["dense.lr_schedule=step", "dense.lr_step_epochs=4", "dense.lr=1", "dense.epochs=10", "lr=auto"]
    recipe = load_recipe("digits", [*steps, "finetune.epochs=5"])
    rates = chosen_rates(recipe, 0.5)
    assert [rates(epoch, 0, 7) for epoch in range(5)] == [recipe.dense.learning_rate(e) for e in range(5, 10)]
    assert "rewound" in rates.words
    short = load_recipe("digits", [*steps, "finetune.epochs=2"])
    assert max(of(chosen_rates(short, 0.5), epochs=2, steps=10)) == pytest.approx(0.5)


def test_pruning_while_training_takes_the_dense_rate_and_half_a_cosine_by_step():
    recipe = load_recipe("digits", ["lr=auto", "schedule=gradual", "dense.lr=0.3", "finetune.epochs=2"])
    expected = [0.15 * (1 + math.cos(math.pi * step / 10)) for step in range(10)]
    assert of(chosen_rates(recipe, 0.0), epochs=2, steps=5) == pytest.approx(expected)


def test_linear_rates_end_with_the_share_that_is_asked_for():
    settings = Training(epochs=4, lr=1.0, lr_schedule="linear", lr_final=0.2)
    assert of(given_rates(settings), epochs=4, steps=1) == pytest.approx([1, 0.8, 0.6, 0.4])
    by_step = settings.model_copy(update={"lr_per_step": True, "warmup_epochs": 1})
    assert of(given_rates(by_step), epochs=4, steps=2)[:3] == pytest.approx([0.5, 1, 1])


def test_rates_restart_at_each_pruning():
    settings = Training(epochs=6, lr=1.0, lr_schedule="restart", lr_final=0.1)
    schedule = Gradual(0.9, start=2, end=8, interval=2, initial=0.7)
    rates = of(given_rates(settings, schedule), epochs=6, steps=2)
    assert rates == pytest.approx([1, 0.55] * 4 + [1, 0.775, 0.55, 0.325])


def test_relative_change_of_gaussian_weights_is_what_is_known():
    weights = torch.randn(200_000, dtype=torch.float64)
    for sparsity, known in ((0.8, 0.66), (0.9, 0.79), (0.95, 0.87), (0.98, 0.93)):
        kept = weights[weights.abs() > weights.abs().quantile(sparsity)]
        change = relative_change(float(weights @ weights), float(kept @ kept), sparsity)
        assert change == pytest.approx(known, abs=0.015)


@pytest.mark.slow
def test_a_run_says_and_records_its_rates_and_goes_on_with_them(tmp_path: Path, monkeypatch):
    recipe = short_recipe("lr=auto", "sparsity=0.5")
    whole = run(recipe, tmp_path / "whole")
    assert whole["learning_rate"].startswith("linear to 0 by step from 0.1, 1.000 of 0.1 in dense training")
    assert 0 < whole["change"] < 1
    assert whole["learning_rate"] in (tmp_path / "whole" / "log.txt").read_text()
    rows = whole["history"]["finetune"]
    assert 0 < rows[2]["lr"] < rows[1]["lr"]
    with monkeypatch.context() as patch:
        interrupt(patch, epoch=4)
        with pytest.raises(Interrupted):
            run(recipe, tmp_path / "parts")
    parts = run(recipe, tmp_path / "parts", resume=True)
    assert parts["change"] == whole["change"]
    assert same_weights(tmp_path / "whole" / "model.pt", tmp_path / "parts" / "model.pt")


def test_auto_is_for_fine_tuning():
    assert digits_recipe("lr=auto").finetune.lr == "auto"
