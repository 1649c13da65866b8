"""``gpmt report``: what was pruned, what it cost and whether to trust it, as one page for a browser."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gpmt.cli.options import AsJson, Quiet, Verbose, examples, print_json

if TYPE_CHECKING:
    from gpmt.report.content.report import Report

EXAMPLES = examples(
    "gpmt report runs/digits",
    "gpmt report runs/gp runs/gp-mt --title 'With and without floors' -o floors.html",
    "gpmt report sweeps/digits --watch",
    "gpmt report plan.json -o plan.html",
)

NAME = "report.html"
_SECONDS = 5
"""Between two looks at what is watched."""


def report(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN|PLAN|SWEEP|FILE...",
            help="Folders of runs, sweeps and comparisons; plans; files of weights; the output of gpmt bench --json.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "--out",
            "-o",
            metavar="FILE",
            help="The page; report.html in the folder given, or beside the file; in this folder for several.",
            show_default=False,
        ),
    ] = None,
    title: Annotated[
        str | None, typer.Option(metavar="TEXT", help="The title of the page.", show_default=False)
    ] = None,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch",
            help="Write the page anew while a run or sweep goes on; the open page follows. Ctrl-C ends it.",
            show_default=False,
        ),
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Write one page that shows a pruning: a single HTML file that opens from disk, without a server or internet.

    It tells of everything that is given, side by side, and what is missing. With --json the content is printed; the
    page is then written only with -o.

    Exit code 0: written; 2: nothing that was given can be read, or the page cannot be written; 130: interrupted.
    """
    from gpmt.atomic import check_output
    from gpmt.report.content.read import read_report
    from gpmt.report.page.write import check_extra

    target = _beside(paths) if out is None else out
    writes = not as_json or out is not None
    if writes:
        check_output(target)
        check_extra()
    found = read_report(paths, title=title)
    if watch and writes:
        found = _watch(paths, target, title, found, quiet=quiet or as_json)
    elif writes:
        _write(found, target)
    if as_json:
        print_json(found.to_dict())
    elif not quiet:
        for problem in found.problems:
            typer.echo(f"warning: {problem}", err=True)
        typer.echo(f"wrote {target}; open it in a browser")


def _beside(paths: Sequence[Path]) -> Path:
    """Return where the page goes if nobody says where."""
    if len(paths) > 1:
        return Path(NAME)
    return (paths[0] if paths[0].is_dir() else paths[0].parent) / NAME


def _write(found: Report, target: Path, refresh: int | None = None) -> None:
    from gpmt.report.page.write import write_page

    write_page(found, target, refresh=refresh)


def goes_on(found: Report) -> bool:
    """Whether a run of a report, or one of a sweep or comparison, has not finished."""
    return any(not subject.finished for subject in found.subjects) or any(
        grid.goes_on for grid in found.grids
    )


def _watch(paths: Sequence[Path], target: Path, title: str | None, found: Report, *, quiet: bool) -> Report:
    """Write the page until all is finished, or the user has seen enough."""
    from gpmt.report.content.read import read_report

    shown: dict[str, object] | None = None
    try:
        while goes_on(found):
            now = {**found.to_dict(), "made": ""}
            if now != shown:
                _write(found, target, refresh=_SECONDS)
                if shown is None and not quiet:
                    typer.echo(f"watching; open {target} in a browser, Ctrl-C ends it", err=True)
                shown = now
            time.sleep(_SECONDS)
            found = read_report(paths, title=title)
    except KeyboardInterrupt:
        pass
    _write(found, target)
    return found
