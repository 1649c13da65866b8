import io
from typing import Any

import pytest

from gpmt.terminal.sweep import sweep_table
from gpmt.terminal.tables import console
from gpmt.training.sweep.results import MEASURES, summarise


def test_mean_and_sample_deviation_over_the_seeds():
    def row(variant: str, sparsity: str, seed: int, top1: float, pruned: float | None) -> dict[str, Any]:
        labels = {"variant": variant, "sparsity": sparsity, "seed": seed, "kept": 10}
        return {**dict.fromkeys(MEASURES), **labels, "finetuned_top1": top1, "pruned_top1": pruned}

    rows = [row("GP", "0.9", seed, 0.9 + seed / 100, 0.1) for seed in (0, 1, 2)]
    summary = summarise([*rows, row("gradual", "0.9", 0, 0.8, None)], ["sparsity", "seed"])
    first, second = summary
    assert (first["variant"], first["sparsity"], first["seeds"]) == ("GP", "0.9", [0, 1, 2])
    assert first["finetuned_top1"] == {"mean": pytest.approx(0.91), "std": pytest.approx(0.01)}
    assert first["dense_top1"] is None
    assert second["finetuned_top1"] == {"mean": 0.8, "std": None}
    out = console(file=(text := io.StringIO()))
    out.print(sweep_table(summary, ["sparsity", "seed"]))
    lines = [" ".join(line.split()) for line in text.getvalue().splitlines()]
    assert "variant sparsity kept top-1 % top-1 % seeds" in lines
    assert "GP 0.9 10 10.00 ± 0.00 91.00 ± 1.00 3" in lines
    assert "gradual 0.9 10 – 80.00 ± – 1" in lines
