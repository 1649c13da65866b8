"""``gpmt compare``: one recipe under several methods of pruning with as many epochs each, or runs side by side."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gpmt.cli.options import AsJson, DryRun, Jobs, Quiet, Verbose, examples, print_json
from gpmt.cli.own_report import write_own_report
from gpmt.errors import GpmtError, RecipeError
from gpmt.formats.run_result import is_run, is_sweep
from gpmt.training.compare.methods import METHODS

if TYPE_CHECKING:
    from gpmt.training.compare.comparison import Comparison

EXAMPLES = examples(
    "gpmt compare digits --sparsity 0.9,0.95,0.98",
    "gpmt compare digits --sparsity 0.95 --methods GP,GP+MT,gradual,AC/DC --seeds 0,1 --dry-run",
    "gpmt compare fashion-mnist-lenet5 data.root=FMNIST --sparsity 0.95,0.98,0.99 --epochs 5 --min-kept 0.05% "
    "--jobs 2 -o fashion",
    "gpmt compare runs/gp runs/gp-mt --layers",
)
_ONLY_RECIPES = {
    "methods", "sparsity", "seeds", "min_kept", "epochs", "out", "jobs", "resume", "force", "dry_run",
}  # fmt: skip
"""Options that are not for runs side by side."""


def compare(
    context: typer.Context,
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE|RUN",
            help="A shipped recipe's name, the path of a YAML file, or the folder of a run.",
        ),
    ],
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE|RUN]...",
            help="Changes of all runs, such as data.root=FOLDER or dense.epochs=5; or further runs.",
        ),
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,...",
            help=f"{', '.join(method.name for method in METHODS)}; all of them if not given. A name is the method "
            "without floors and with them; NAME+MT the latter alone.",
        ),
    ] = None,
    sparsity: Annotated[
        str | None,
        typer.Option(
            "--sparsity", "-s", metavar="RATIO,...", help="A column for each; the recipe's if not given."
        ),
    ] = None,
    seeds: Annotated[
        str, typer.Option(metavar="NUMBER,...", help="One run each, in every cell of the table.")
    ] = "0,1,2",
    min_kept: Annotated[
        str | None,
        typer.Option(
            "--min-kept",
            metavar="NUMBER",
            help="The floor of the rows with floors: weights that every tensor keeps, percent such as 0.05%, or "
            "auto. If not given the recipe's, or auto where it has none; none leaves those rows out.",
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Those of every run in all, divided into dense training and fine-tuning as in the recipe; the "
            "recipe's number if not given.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "--out",
            "-o",
            metavar="FOLDER",
            help="The comparison's folder; comparisons/RECIPE if not given.",
        ),
    ] = None,
    jobs: Jobs = 1,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Keep finished runs, and go on with the others. There may be more or fewer methods, sparsities and "
            "seeds than before: the table is of those given, and other runs are kept.",
        ),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", "-f", help="Remove the runs in the folder first.")
    ] = False,
    dry_run: DryRun = False,
    layers: Annotated[
        bool,
        typer.Option(
            "--layers", help="Of runs: the density of every layer side by side.", show_default=False
        ),
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Compare methods of pruning on one recipe, with the same number of epochs in all: top-1 as mean ± deviation.

    Given folders of gpmt run, nothing is trained: they are set side by side, the settings in which they differ and
    what came of them.

    Methods that prune a trained network train it first, once for all that share it; the others prune while they train
    from scratch for all epochs. Where the recipe has a checkpoint, all start from it. From the first run on the table
    is in comparison.csv, comparison.json and comparison.md, a page that tells what a credible report contains.

    Exit code 0: all done and verified, diverged runs and infeasible cells marked; 1: verification of a result failed;
    2: the request is not valid, or a run failed; 130: interrupted.
    """
    paths = [recipe, *(settings or [])]
    named = _is_shipped(recipe)
    if is_run(Path(recipe)) and not named:
        _side_by_side(context, [Path(path) for path in paths], layers=layers, as_json=as_json, quiet=quiet)
        return
    _check_recipe(paths, layers, named=named)

    from gpmt.training.compare.comparison import make_comparison
    from gpmt.training.recipes.files import short_name

    asked: dict[str, Any] = {
        "methods": None if methods is None else _listed("--methods", methods),
        "sparsities": None if sparsity is None else _listed("--sparsity", sparsity),
        "seeds": [_seed(text) for text in _listed("--seeds", seeds)],
        "min_kept": min_kept,
        "epochs": epochs,
    }
    make_comparison(recipe, settings or [], **asked, look_up=False)

    out = Path("comparisons") / short_name(recipe) if out is None else out
    comparison = make_comparison(recipe, settings or [], **asked)
    if dry_run:
        _preview(comparison, out, resume, force, as_json=as_json, quiet=quiet)
        return

    from gpmt.training.compare.runner import compare as run_comparison
    from gpmt.training.sweep.runner import Interrupted

    given: dict[str, Any] = {
        "--methods": methods,
        "--sparsity": sparsity,
        "--min-kept": min_kept,
        "--epochs": epochs,
    }
    given |= {"--seeds": seeds, "--jobs": jobs if jobs > 1 else None, "-o": out}
    options = [part for name, value in given.items() if value is not None for part in (name, str(value))]
    again = shlex.join(["gpmt", "compare", recipe, *(settings or []), *options, "--resume"])
    try:
        document = run_comparison(
            comparison,
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
        print_json(document)
    elif not quiet:
        _print(document, out)
        typer.echo(line)
    rows = [document["dense"], *document["rows"]]
    if count := sum(len(cell["failed"]) for row in rows for cell in row["cells"]):
        raise GpmtError(
            f"{count} of {document['total']} runs failed; see why above, then go on with: {again}"
        )
    if not all(run["verified"] for run in document["runs"]):
        raise typer.Exit(1)


def _is_shipped(recipe: str) -> bool:
    """Whether this is a recipe's name, which goes before a folder of that name, such as an earlier comparison."""
    if len(Path(recipe).parts) != 1:  # nothing more needs to be imported for runs side by side
        return False
    from gpmt.training.recipes.files import shipped

    return recipe in shipped()


def _check_recipe(paths: Sequence[str], layers: bool, *, named: bool) -> None:
    """Refuse runs beside a recipe, a sweep in its place, and what is for runs alone."""
    if is_sweep(Path(paths[0])) and not named:
        raise RecipeError(
            f"{paths[0]} is the folder of a sweep; give those of its runs, which gpmt runs --all lists"
        )
    others = paths[1:] if named else paths
    if run := next((path for path in others if is_run(Path(path))), None):
        raise RecipeError(
            f"{run} is the folder of a run, but {paths[0]} is not; give runs alone, or a recipe and KEY=VALUE"
        )
    if layers:
        raise RecipeError(f"--layers is for runs side by side, but {paths[0]} is not the folder of a run")


def _side_by_side(
    context: typer.Context, paths: Sequence[Path], *, layers: bool, as_json: bool, quiet: bool
) -> None:
    """Print what runs have come to, and in which settings they differ."""
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name in _ONLY_RECIPES and source is not None and source.name == "COMMANDLINE":
            raise RecipeError(
                f"{parameter.opts[0]} is for a recipe, but {paths[0]} is the folder of a run; leave one of them out"
            )

    from gpmt.runs.side_by_side import compare_runs

    compared = compare_runs(paths)
    if as_json:
        print_json(compared.to_dict(layers=layers))
    elif not quiet:
        from gpmt.terminal.side_by_side import print_side_by_side
        from gpmt.terminal.tables import console

        print_side_by_side(compared, layers=layers, out=console())


def _listed(option: str, text: str) -> list[str]:
    values = [value.strip() for value in text.split(",")]
    if "" in values:
        raise RecipeError(
            f"{option} {text!r} has an empty value; write the values with one comma between them"
        )
    return values


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise RecipeError(f"seed is {text!r}, but must be a whole number of at least 0")
    return int(text)


def _print(document: dict[str, Any], out: Path) -> None:
    from gpmt.terminal.comparison import comparison_tables, epochs_line, legend, troubles
    from gpmt.terminal.tables import console

    screen = console()
    screen.print(f"{document['title']}: top-1 % on the test data after the last epoch")
    for table in comparison_tables(document, width=screen.width):
        screen.print(table)
    spread = "mean ± sample standard deviation over the seeds; " if len(document["seeds"]) > 1 else ""
    for line in (f"{spread}{epochs_line(document)}", *legend(document)):
        screen.print(line)
    for line in troubles(document):
        screen.print(line)
    for run in document["runs"]:
        if not run["verified"]:
            screen.print(f"NOT as promised: {run['folder']}, see its metrics.json")
    screen.print(
        f"written to {out}: comparison.md, comparison.csv, comparison.json, and a folder for each run"
    )


def _preview(
    comparison: Comparison, out: Path, resume: bool, force: bool, *, as_json: bool, quiet: bool
) -> None:
    """Show the runs that there would be."""
    from gpmt.training.compare.runner import FILES, preview

    document = preview(comparison, out, resume=resume, force=force)
    if as_json:
        print_json(document)
    elif not quiet:
        from gpmt.terminal.comparison import epochs_line, infeasible_lines, preview_table
        from gpmt.terminal.tables import console

        screen = console()
        screen.print(f"{document['title']}: {len(document['runs'])} runs")
        screen.print(preview_table(document, width=screen.width))
        trained = sum(run["trains"] for run in document["runs"])
        screen.print(f"{epochs_line(document)}; {trained:,} epochs to train, shared dense networks once")
        for line in infeasible_lines(document["runs"]):
            screen.print(line)
        screen.print(
            f"would write into {out}: {', '.join(FILES)} and a folder for each run; nothing is written"
        )
