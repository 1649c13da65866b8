"""``gpmt figure``: figures for papers, of runs, plans, sweeps, comparisons and files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gpmt.atomic import atomic_path
from gpmt.cli.files import Force
from gpmt.cli.narration import working
from gpmt.cli.options import AsJson, Quiet, Verbose, examples, print_json
from gpmt.cli.report_sources import ReportPaths, check_files, read_sources
from gpmt.errors import FigureError
from gpmt.report.figures.kinds import KINDS, data_of, draw, format_of, kind_of, plain

EXAMPLES = examples(
    "gpmt figure density runs/gp runs/gp-mt -o density.pdf",
    "gpmt figure histogram runs/gp --layer conv1.weight -o histogram.svg",
    "gpmt figure curve comparisons/digits --chance 10% -o curve.pdf --width 12",
    "gpmt figure pareto comparisons/digits --x latency -o pareto.png --title 'Digits on a CPU'",
    "gpmt figure curve sweeps/digits --json",
)


def figure(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND", help="; ".join(f"{name}: {each.about}" for name, each in KINDS.items()) + "."
        ),
    ],
    paths: ReportPaths,
    out: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "--out",
            "-o",
            metavar="FILE",
            help="The figure: a name that ends in .svg, .pdf or .png.",
        ),
    ] = None,
    width: Annotated[
        str, typer.Option(help="column (8.5 cm), page (17.5 cm), or a number of cm, such as 12.")
    ] = "column",
    title: Annotated[str, typer.Option(help="A line above the figure.", show_default=False)] = "",
    layer: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="For histogram and filters: one block or tensor, not all."),
    ] = None,
    x: Annotated[
        str | None,
        typer.Option(
            "--x",
            metavar="AXIS",
            help="For pareto: macs (if not given), latency or sparsity along the x axis.",
        ),
    ] = None,
    chance: Annotated[
        str | None,
        typer.Option(
            metavar="SHARE", help="For curve and pareto: the accuracy of guessing, such as 10%, as a line."
        ),
    ] = None,
    force: Force = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Draw a figure that fits a column of a paper: the same bytes for the same data; needs Matplotlib.

    density and training draw several runs over each other; curve and pareto take sweeps, comparisons and runs, and
    show the mean and the sample standard deviation over seeds.

    --json prints the data that is drawn, and needs no -o.
    """
    kind_of(kind)
    share = None if chance is None else _share(chance)
    if out is None and not as_json:
        raise FigureError("give -o, such as -o figure.svg, or --json for the data")
    if out is not None:
        format_of(out)
    check_files(paths, out, force=force)

    report = read_sources(paths, quiet=quiet or as_json)
    data = data_of(kind, report, layer=layer, x=x, chance=share)
    if out is not None:
        with working(f"drawing {out}", quiet=quiet or as_json):
            content = draw(kind, data, width=width, title=title).rendered(format_of(out))
        with atomic_path(out) as file:
            file.write_bytes(content)
    if as_json:
        print_json({"figure": kind, "output": None if out is None else str(out), "data": plain(data)})
    elif not quiet:
        print(f"wrote {out}")


def _share(text: str) -> float:
    from gpmt.core.budget.budget import exact_fraction

    share = exact_fraction(text, what="chance")
    if not 0 <= share <= 1:
        raise FigureError(f"chance is {text}, but must be a share from 0 to 1, such as 10%")
    return float(share)
