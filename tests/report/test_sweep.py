import io

from gpmt.report.sweep import sweep_table
from gpmt.report.tables import console


def test_columns_without_values_are_left_out_and_seeds_are_counted():
    def row(sparsity, **accuracies):
        phases = ("dense_top1", "pruned_top1", "recalibrated_top1", "finetuned_top1")
        labels = {
            "variant": "",
            "sparsity": sparsity,
            "seed": None,
            "kept": {"mean": 1234.5},
            "seeds": [0, 1],
        }
        return labels | dict.fromkeys(phases) | accuracies

    rows = [
        row("0.8", finetuned_top1={"mean": 0.915, "std": 0.002}),
        row("0.9", finetuned_top1={"mean": 0.9, "std": None}, pruned_top1={"mean": None, "std": None}),
    ]
    out = console(file=(text := io.StringIO()))
    out.print(sweep_table(rows, ["sparsity", "seed"]))
    lines = [" ".join(line.split()) for line in text.getvalue().splitlines()]
    assert "sparsity kept pruned top-1 % fine-tuned top-1 % seeds" in lines
    assert "0.8 1,234 – 91.50 ± 0.20 2" in lines
    assert "0.9 1,234 – 90.00 ± – 2" in lines
