"""``gpmt run``: one experiment from a recipe."""

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from gpmt.cli.options import AsJson, DryRun, Quiet, RecipeName, Verbose, examples, print_json
from gpmt.cli.own_report import write_own_report

EXAMPLES = examples(
    "gpmt run digits",
    "gpmt run cifar10-resnet20 data.root=cifar10 sparsity=0.95 min_kept=0.2% -o runs/mt-95",
    "gpmt run runs/mt-95/recipe.yaml --resume",
    "gpmt run digits sparsity=0.98 --dry-run",
    "gpmt run digits log=wandb,mlflow",
)


def run(
    recipe: RecipeName,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Changes, such as sparsity=0.95 finetune.lr=0.01."),
    ] = None,
    sparsity: Annotated[
        str | None,
        typer.Option("--sparsity", "-s", metavar="RATIO", help="The same as sparsity=RATIO."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--output", "--out", "-o", metavar="FOLDER", help="The run folder; runs/RECIPE if not given."
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on after the last finished epoch.")] = False,
    force: Annotated[bool, typer.Option("--force", "-f", help="Overwrite the run in the folder.")] = False,
    dense_from: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN", help="Take the dense network from another run with the same dense settings."
        ),
    ] = None,
    max_minutes: Annotated[
        float | None, typer.Option(min=0, help="Stop after the epoch in which so many minutes are over.")
    ] = None,
    max_epochs: Annotated[
        int | None, typer.Option(min=1, help="Stop after so many epochs; --resume goes on.")
    ] = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="The same as log=tensorboard: curves for TensorBoard.")
    ] = False,
    report: Annotated[
        bool, typer.Option("--report/--no-report", help="Write report.html, a page that shows the run.")
    ] = True,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train or load a dense network, prune it, fine-tune it, and report; writes a run folder.

    Exit code 0: done and verified; 1: verification failed; 2: the request or a file is not valid; 3:
    stopped by --max-minutes or --max-epochs; 130: interrupted.
    """
    from gpmt.training.recipes.files import load_recipe, short_name

    overrides = [*(overrides or []), *([f"sparsity={sparsity}"] if sparsity is not None else [])]
    load_recipe(recipe, overrides, look_up=False)

    from accelerate import PartialState

    from gpmt.training.run.run import Interrupted, Stopped
    from gpmt.training.run.run import run as run_recipe

    loaded = load_recipe(recipe, overrides)
    if out is None:  # the recipe.yaml of a run folder resumes in that folder
        path = Path(recipe)
        out = path.parent if path.name == "recipe.yaml" else Path("runs") / short_name(recipe)
    if dry_run:
        _preview(loaded, out, resume, force, dense_from, tensorboard, as_json=as_json, quiet=quiet)
        return
    command = shlex.join(["gpmt", *sys.argv[1:]])
    again = shlex.join(["gpmt", "run", recipe, *overrides, "-o", str(out), "--resume"])
    try:
        metrics = run_recipe(
            loaded,
            out,
            resume=resume,
            force=force,
            dense_from=dense_from,
            max_minutes=max_minutes,
            max_epochs=max_epochs,
            tensorboard=tensorboard,
            command=command,
            quiet=quiet,
        )
    except (Interrupted, Stopped) as stopped:
        interrupted = isinstance(stopped, Interrupted)
        verb = "interrupted" if interrupted else "stopped"
        if PartialState().is_main_process:
            typer.echo(f"{verb} {stopped}; go on with: {again}", err=True)
        raise typer.Exit(130 if interrupted else 3) from None
    if PartialState().is_main_process:
        line = write_own_report(out) if report else ""
        if as_json:
            print_json(metrics)
        elif not quiet:
            _print(metrics, out)
            typer.echo(line, nl=bool(line))
    if not metrics["verified"]:
        raise typer.Exit(1)


def _preview(
    recipe: Any,
    out: Path,
    resume: bool,
    force: bool,
    dense_from: Path | None,
    tensorboard: bool,
    *,
    as_json: bool,
    quiet: bool,
) -> None:
    """Show what the run would do."""
    from gpmt.training.run.preview import preview

    found = preview(recipe, out, resume=resume, force=force, dense_from=dense_from, tensorboard=tensorboard)
    if as_json:
        print_json(found.to_dict())
    elif not quiet:
        from gpmt.terminal.plan_tables import print_plan
        from gpmt.terminal.tables import console

        screen = console()
        for line in found.lines():
            screen.print(line)
        if found.weights_known:
            print_plan(found.plan, out=screen)
        else:
            screen.print("how many weights each tensor keeps follows from the training before")
        names = ", ".join(path.name for path in found.files)
        screen.print(f"would write into {out}: {names}; nothing is written")


def _print(metrics: dict[str, Any], out: Path) -> None:
    from rich.table import Table

    from gpmt.terminal.tables import console

    screen = console()
    table = Table(title=metrics["title"], title_justify="left")
    for column in ("network", "top-1", "top-5", "loss"):
        table.add_column(column, justify="left" if column == "network" else "right")
    names = {"dense": "dense", "pruned": "pruned", "recalibrated": "batch norms recalibrated"}
    for key, name in {**names, "finetuned": "fine-tuned"}.items():
        if (score := metrics[key]) is None:
            continue
        top5 = "–" if score["top5"] is None else f"{score['top5']:.2%}"
        table.add_row(name, f"{score['top1']:.2%}", top5, f"{score['loss']:.4f}")
    screen.print(table)
    fewest = metrics["fewest_kept"]
    verdict = "verified" if metrics["verified"] else "NOT as promised, see metrics.json"
    screen.print(
        f"{metrics['sparsity']:.4%} of {metrics['weights']:,} prunable {metrics['unit']} are zero ({verdict}); "
        f"the fewest kept in a tensor are {fewest['kept']:,} of {fewest['weights']:,}, in {fewest['name']}",
    )
    if dead := metrics["dead"]:
        some = ", ".join(dead[:3]) + (", ..." if len(dead) > 3 else "")
        screen.print(f"no weight is left in {len(dead)} of the tensors: {some}")
    screen.print(
        f"written to {out}: model.pt, masks.safetensors, dense.pt, metrics.json and more, see its README.md"
    )
