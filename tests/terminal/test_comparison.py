import io
from typing import Any

from gpmt.terminal.comparison import (
    comparison_tables,
    epochs_line,
    infeasible_lines,
    legend,
    marks,
    preview_table,
    troubles,
)
from gpmt.terminal.tables import console


def cell(sparsity: str, mean: float | None = 0.9, std: float | None = 0.01, **changes: Any) -> dict[str, Any]:
    spread = None if mean is None else {"mean": mean, "std": std}
    lists: dict[str, Any] = {"diverged": [], "failed": [], "to_do": []}
    plain = {"sparsity": sparsity, "finetuned_top1": spread, "infeasible": None, "best": False, "dead": 0}
    return plain | lists | changes


def line(method: str, cells: list[dict[str, Any]], floor: str | None = None) -> dict[str, Any]:
    return {
        "method": method,
        "floor": floor,
        "cells": cells,
        "epochs": {"dense": 4, "finetune": 2},
        "seconds": 75.0,
    }


def document(*rows: dict[str, Any], sparsities: list[str]) -> dict[str, Any]:
    return {
        "epochs": 6,
        "dense_epochs": 4,
        "sparsities": sparsities,
        "dense": line("dense", [cell("0", 0.99)]),
        "rows": list(rows),
        "infeasible": [],
    }


def printed(tables: list[Any], width: int = 200) -> list[str]:
    out = console(file=(text := io.StringIO()))
    out.width = width
    for table in tables:
        out.print(table)
    lines = text.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert "…" not in text.getvalue()
    return lines


def test_cells_show_accuracies_marks_and_what_is_missing():
    found = document(
        line("GP", [cell("0.9", best=True, dead=2), cell("0.95", None, diverged=[0, 1])]),
        line("GP", [cell("0.9", 0.88, None, failed=[1]), cell("0.95", None, infeasible="no")], "0.25%"),
        line("AC/DC", [cell("0.9", 0.5), cell("0.95", None, to_do=[0])]),
        sparsities=["0.9", "0.95"],
    )
    lines = [" ".join(text.split()) for text in printed(comparison_tables(found))]
    assert "method floor 90 % 95 % epochs time" in lines
    assert "dense – 99.00 ± 1.00 99.00 ± 1.00 4 + 2 75 s" in lines
    assert "GP – 90.00 ± 1.00*† diverged 4 + 2 75 s" in lines
    assert "GP 0.25% 88.00‡ infeasible 4 + 2 75 s" in lines
    assert "AC/DC – 50.00 ± 1.00 – 4 + 2 75 s" in lines
    assert [text[0] for text in legend(found)] == ["*", "†", "‡"]
    assert troubles(found) == [
        "GP at 95 %: diverged with seed 0, 1",
        "GP with floors at 90 %: failed with seed 1",
    ]


def test_numbers_are_aligned_beside_marks():
    found = document(
        line("GP", [cell("0.9", best=True, dead=1)]), line("ERK", [cell("0.9")]), sparsities=["0.9"]
    )
    dots = {text.index(".") for text in printed(comparison_tables(found)) if "±" in text}
    assert len(dots) == 1


def test_many_sparsities_are_spread_over_tables_that_fit_80_columns():
    sparsities = ["0.5", "0.6", "0.7", "0.8", "0.9", "0.95", "0.98"]
    rows = [line("AC/DC+HAM", [cell(s, best=True) for s in sparsities], "0.25%")]
    tables = comparison_tables(document(*rows, sparsities=sparsities), width=80)
    assert len(tables) == 2
    lines = printed(tables, 80)
    heads = " ".join(text for text in lines if "method" in text)
    assert all(f"{int(100 * float(sparsity))} %" in heads for sparsity in sparsities)
    assert sum("90.00 ± 1.00*" in text for text in lines) == 2


def test_a_single_column_is_drawn_in_any_width():
    assert len(comparison_tables(document(line("GP", [cell("0.9")]), sparsities=["0.9"]), width=10)) == 1


def test_no_marks_no_legend():
    found = document(line("GP", [cell("0.9")]), sparsities=["0.9"])
    assert legend(found) == []
    assert marks(cell("0.9", None, best=True, to_do=[0])) == ""


def test_budgets_in_words():
    assert epochs_line({"epochs": 15, "dense_epochs": 10}) == (
        "every run has 15 epochs: 10 dense + 5 of fine-tuning, or all from an untrained network"
    )
    assert epochs_line({"epochs": 15, "dense_epochs": 0}) == "every run has 15 epochs, from the same weights"


def test_runs_that_cannot_be_are_named_once_for_each_reason():
    def run(variant: str, sparsity: str, seed: int, reason: str | None) -> dict[str, Any]:
        return {
            "variant": variant,
            "sparsity": sparsity,
            "seed": str(seed),
            "infeasible": reason,
            "epochs": {"dense": 0, "finetune": 6},
            "trains": 6,
        }

    runs = [run("GP", "0.9", 0, None), run("GP+MT", "0.99", 0, "no room"), run("GP+MT", "0.99", 1, "no room")]
    runs += [run("ERK+MT", "0.99", 0, "no room"), run("AC/DC", "0.9", 0, "too short")]
    assert infeasible_lines(runs) == [
        "infeasible: GP+MT at 99 %, ERK+MT at 99 %: no room",
        "infeasible: AC/DC at 90 %: too short",
    ]
    lines = [" ".join(text.split()) for text in printed([preview_table({"runs": runs})])]
    assert "GP 90 % 0 6 6 6" in lines
    assert "GP+MT 99 % 1 6 6 infeasible" in lines
