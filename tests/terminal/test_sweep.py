import io

from rich.console import Console

from gpmt.terminal.sweep import sweep_table
from gpmt.terminal.tables import console


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
    assert lines[1:3] == ["pruned fine-tuned", "sparsity kept top-1 % top-1 % seeds"]
    assert "0.8 1,234 – 91.50 ± 0.20 2" in lines
    assert "0.9 1,234 – 90.00 ± – 2" in lines


def test_on_a_narrow_terminal_variants_and_results_stay():
    spread = {"mean": 0.9154, "std": 0.0123}
    row = {
        "variant": "gradual with a long name",
        "min_kept": "0.25%",
        "sparsity": "0.95",
        "kept": {"mean": 1_234_567.0},
        "seeds": [0, 1, 2],
        **dict.fromkeys(("dense_top1", "pruned_top1", "recalibrated_top1", "finetuned_top1"), spread),
    }
    for width in (80, 120):
        out = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
        out.print(sweep_table([row], ["sparsity", "min_kept"], width=width))
        printed = out.file.getvalue()
        assert max(map(len, printed.splitlines())) <= width
        for text in ("gradual with a long name", "0.25%", "0.95", "91.54 ± 1.23", "fine-tuned", "pruned"):
            assert text in printed
        assert ("recalibrated" in printed) == (width == 120)
