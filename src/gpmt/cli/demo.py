"""``gpmt demo``: the effect of a minimum per layer, measured on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from gpmt.atomic import check_output
from gpmt.cli.options import AsJson, MinKept, Quiet, Verbose, check_request, examples, print_json

if TYPE_CHECKING:
    from gpmt.demo import Comparison

EXAMPLES = examples("gpmt demo", "gpmt demo --seed 1 --sparsities 0.85,0.95 --json > demo.json")

CAVEAT = """\
The network was chosen to show the effect: only one of its five blocks has a shortcut around it. Networks with \
shortcuts throughout, such as ResNet-50, hardly need a minimum."""

NEXT = """\
Next, a checkpoint of your own, without data or training:
  gpmt prune model.pth -o pruned.pth --sparsity 0.9 --min-kept 0.05%
  gpmt inspect pruned.pth
  gpmt verify pruned.pth --sparsity 0.9 --min-kept 0.05%
and training, pruning and fine-tuning by a recipe:
  gpmt run digits"""


COLUMNS: dict[str, Literal["left", "right"]] = {
    "sparsity": "right",
    "method": "left",
    "kept": "right",
    "sparsest layer": "left",
    "keeps": "right",
    "dead\nlayers": "right",
    "top-1\npruned": "right",
    "fine-\ntuned": "right",
}


def demo(
    seed: Annotated[
        int, typer.Option(min=0, help="Decides the first weights and the order of the images.")
    ] = 0,
    sparsities: Annotated[
        str,
        typer.Option(
            "--sparsities", "-s", metavar="LIST", help="Fractions of the prunable weights to prune."
        ),
    ] = "0.8,0.9,0.93,0.95",
    min_kept: MinKept = "0.25%",
    out: Annotated[
        Path,
        typer.Option(
            "--output", "--out", "-o", metavar="FILE", help="The page that shows it, for a browser."
        ),
    ] = Path("gpmt-demo.html"),
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Compare global pruning without (GP) and with a minimum per layer (GP+MT) on a small network.

    Trains a small MobileNet on scikit-learn's digits, prunes it by both methods at rising sparsities, fine-tunes
    all in the same way, and prints the accuracies. Takes about half a minute, downloads nothing, and writes one page
    that shows the collapse and the rescue.
    """
    listed = sparsities.split(",")
    for sparsity in listed:
        check_request(sparsity=sparsity, min_kept=min_kept)
    check_output(out)

    import torch

    from gpmt.demo import compare
    from gpmt.training.run.progress import Reporter

    # Layers this small are not faster with a second thread, and much slower when it has to wait for a core.
    torch.set_num_threads(1)
    comparison = compare(seed=seed, sparsities=listed, min_kept=min_kept, reporter=Reporter(quiet=quiet))
    line = _write_page(comparison, out)
    if as_json:
        print_json(comparison.to_dict())
    elif not quiet:
        _print(comparison)
        typer.echo(f"\n{line}")


def _write_page(comparison: Comparison, out: Path) -> str:
    """Write the page and return the line that names it, or says what it needs."""
    from gpmt.demo_report import demo_report
    from gpmt.errors import ReportError
    from gpmt.report.page.write import write_page

    try:
        write_page(demo_report(comparison), out)
    except ReportError as error:
        return f"No page that shows this: {error}"
    return f"See the collapse and the rescue: open {out} in a browser ({out.resolve().as_uri()})"


def _print(comparison: Comparison) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from gpmt.demo import percent
    from gpmt.terminal.tables import console

    screen = console()
    table = Table(box=SIMPLE_HEAD, padding=0, show_edge=False)
    for title, justify in COLUMNS.items():
        table.add_column(title, justify=justify, no_wrap=True, vertical="bottom")
    for level in comparison.levels:
        for method, outcome in (("GP", level.gp), ("GP+MT", level.gp_mt)):
            table.add_row(
                percent(level.sparsity),
                method,
                f"{outcome.kept:,}",
                outcome.sparsest,
                f"{outcome.sparsest_kept:,} of {outcome.sparsest_weights:,}",
                f"{outcome.dead}",
                percent(outcome.accuracy_pruned),
                percent(outcome.accuracy_finetuned),
                end_section=method == "GP+MT",
            )
    images, epochs = comparison.images, comparison.epochs
    screen.print(table)
    screen.print(
        f"\nSparsity is counted over the {comparison.weights:,} weights of {comparison.layers} convolutions and "
        f"linear layers. The dense network got {percent(comparison.accuracy_dense)} of {images['test']} test "
        f"images right after {epochs['dense']} epochs on {images['train']:,} others; each pruned one was "
        f"fine-tuned for {epochs['finetune']}, and its last epoch counts. Seed {comparison.seed}, "
        f"{comparison.seconds:.0f} seconds.\n\n{comparison.reading()}\n\n{CAVEAT}\n\n{NEXT}"
    )
