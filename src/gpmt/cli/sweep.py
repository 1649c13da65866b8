"""``gpmt sweep``: a recipe over a grid of settings."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from gpmt.cli.options import AsJson, Jobs, Quiet, RecipeName, Verbose, examples, print_json
from gpmt.cli.own_report import write_own_report
from gpmt.errors import GpmtError

EXAMPLES = examples(
    "gpmt sweep digits sparsity=0.8,0.9,0.95 seed=0,1,2",
    "gpmt sweep digits sparsity=0.9,0.95 seed=0,1,2 --variant 'GP: min_kept=0' --variant 'GP+MT: min_kept=0.25%' "
    "--variant 'gradual: schedule=gradual dense.epochs=0 finetune.epochs=15' --jobs 2",
)


def sweep(
    recipe: RecipeName,
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE[,VALUE]...]...",
            help="Changes of all runs, such as finetune.epochs=5, and lists to try, such as sparsity=0.8,0.9. "
            "Commas inside brackets do not make a list.",
        ),
    ] = None,
    variants: Annotated[
        list[str] | None,
        typer.Option(
            "--variant",
            metavar="'NAME: KEY=VALUE...'",
            help="Changes that belong together, such as a method's; may be given several times.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "--out",
            "-o",
            metavar="FOLDER",
            help="The sweep's folder; sweeps/RECIPE if not given.",
        ),
    ] = None,
    jobs: Jobs = 1,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Keep finished runs, and go on with the others; the grid may grow."),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", "-f", help="Remove the runs in the folder first.")
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Run a recipe for every combination of settings, and report mean ± standard deviation over the seeds.

    Every run has a folder as gpmt run writes it; runs with the same dense network train it once. Results are in
    results.csv, summary.csv and results.json, from the first run on.

    Exit code 0: all done and verified; 1: verification of a result failed; 2: the request is not valid, or a run
    failed; 130: interrupted.
    """
    from gpmt.training.recipes.files import short_name
    from gpmt.training.sweep.grid import make_grid

    make_grid(recipe, settings or [], variants or [], look_up=False)

    from gpmt.training.sweep.runner import Interrupted
    from gpmt.training.sweep.runner import sweep as run_sweep

    out = Path("sweeps") / short_name(recipe) if out is None else out
    options = [part for variant in variants or [] for part in ("--variant", variant)]
    jobs_options = ["--jobs", str(jobs)] if jobs > 1 else []
    again = shlex.join(
        ["gpmt", "sweep", recipe, *(settings or []), *options, *jobs_options, "-o", str(out), "--resume"]
    )
    grid = make_grid(recipe, settings or [], variants or [])
    try:
        results = run_sweep(
            grid,
            out,
            jobs=jobs,
            resume=resume,
            force=force,
            command=shlex.join(["gpmt", *sys.argv[1:]]),
            quiet=quiet,
        )
    except Interrupted as stopped:
        typer.echo(f"interrupted {stopped}; go on with: {again}", err=True)
        raise typer.Exit(130) from None
    line = write_own_report(out)
    if as_json:
        print_json(results)
    elif not quiet:
        _print(results, out)
        typer.echo(line)
    if failed := results["failed"]:
        named = ", ".join(failure["run"] for failure in failed)
        raise GpmtError(
            f"{len(failed)} of {results['total']} runs failed ({named}); see why above, then go on with: {again}"
        )
    if not all(row["verified"] for row in results["runs"]):
        raise typer.Exit(1)


def _print(results: dict[str, Any], out: Path) -> None:
    from gpmt.terminal.sweep import sweep_table
    from gpmt.terminal.tables import console

    screen = console()
    screen.print(results["title"])
    if results["summary"]:
        screen.print(sweep_table(results["summary"], results["axes"], width=screen.width))
        screen.print("mean ± sample standard deviation over the seeds; the last epoch counts")
    for row in results["runs"]:
        if not row["verified"]:
            screen.print(f"NOT as promised: {row['folder']}, see its metrics.json")
    screen.print(f"written to {out}: results.csv, summary.csv, results.json, sweep.json")
