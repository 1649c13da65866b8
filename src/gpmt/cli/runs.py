"""``gpmt runs``: the runs in a folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gpmt.cli.options import AsJson, Quiet, Verbose, examples, print_json

if TYPE_CHECKING:
    from gpmt.runs.found import Found

EXAMPLES = examples(
    "gpmt runs runs",
    "gpmt runs runs sweeps --sort top1",
    "gpmt runs sweeps/digits --all --json",
)


def runs(
    folders: Annotated[
        list[Path], typer.Argument(metavar="FOLDER...", help="Runs, sweeps, comparisons, or what holds them.")
    ],
    sort: Annotated[
        str,
        typer.Option(
            metavar="KEY",
            help="name, when (newest first), state, sparsity, top1 (best first), time or epochs.",
        ),
    ] = "name",
    reverse: Annotated[
        bool, typer.Option("--reverse", "-r", help="Turn the order around.", show_default=False)
    ] = False,
    every: Annotated[
        bool,
        typer.Option(
            "--all",
            "-a",
            help="Show every run of a sweep or comparison in a line of its own.",
            show_default=False,
        ),
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """List runs: finished, running, interrupted, failed, diverged or damaged; sparsity, accuracy, epochs, time.

    Sweeps and comparisons are a line each. Accuracies are those on the test data after the last epoch so far. Nothing
    is changed; what cannot be read is damaged, and its line says why.
    """
    from gpmt.runs.found import GridSummary, find_runs
    from gpmt.runs.order import ordered

    ordered((), sort)  # a wrong key is told before the folders are read
    found: dict[str, Found] = {}
    for folder in folders:
        for entry in find_runs(folder):
            members = entry.runs if every and isinstance(entry, GridSummary) else (entry,)
            found.update({os.path.abspath(run.path): run for run in members})
    listed = ordered(found.values(), sort, reverse=reverse)
    if as_json:
        print_json({"runs": [run.to_dict() for run in listed]})
    elif not quiet:
        _print(listed, folders)


def _print(listed: Sequence[Found], folders: Sequence[Path]) -> None:
    from gpmt.terminal.runs import runs_table
    from gpmt.terminal.tables import console

    screen = console()
    if not listed:
        screen.print(f"no runs in {', '.join(map(str, folders))}")
        return
    table, lines = runs_table(listed, [str(run.path) for run in listed], width=screen.width)
    screen.print(table)
    for line in lines:
        screen.print(line)
