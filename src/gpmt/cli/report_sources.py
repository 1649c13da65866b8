"""What `figure` and `table` read: the paths of runs, plans, sweeps, comparisons and files of weights."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gpmt.atomic import check_output
from gpmt.cli.narration import working
from gpmt.cli.options import check_exists
from gpmt.errors import CheckpointError

if TYPE_CHECKING:
    from gpmt.report.content.report import Report

ReportPaths = Annotated[
    list[Path],
    typer.Argument(
        metavar="PATH...", help="Folders of runs, sweeps and comparisons, plans, or files of weights."
    ),
]


def read_sources(paths: Sequence[Path], *, quiet: bool) -> Report:
    """Read everything, and print on stderr what could not be read."""
    from gpmt.report.content.read import read_report

    with working(f"reading {', '.join(map(str, paths))}", quiet=quiet):
        report = read_report(paths)
    for problem in report.problems:
        print(f"left out: {problem}", file=sys.stderr)
    return report


def check_files(paths: Sequence[Path], out: Path | None, *, force: bool) -> None:
    """Raise `CheckpointError` for a missing path, and an output that exists, is an input or cannot be written."""
    for path in paths:
        check_exists(path)
    if out is None:
        return
    if out.resolve() in {path.resolve() for path in paths}:
        raise CheckpointError(f"{out} is an input; give the output a name of its own")
    if out.exists() and not force:
        raise CheckpointError(f"{out} exists; give another name, or --force to replace it")
    check_output(out)
