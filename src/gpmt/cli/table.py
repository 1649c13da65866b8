"""``gpmt table``: tables for papers, of runs, plans, sweeps, comparisons and files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gpmt.atomic import atomic_path
from gpmt.cli.files import Force
from gpmt.cli.options import AsJson, Quiet, Verbose, examples, print_json
from gpmt.cli.report_sources import ReportPaths, check_files, read_sources
from gpmt.report.tables.forms import form_of, written
from gpmt.report.tables.layers import layers_tables
from gpmt.report.tables.results import results_tables

EXAMPLES = examples(
    "gpmt table comparisons/digits",
    "gpmt table comparisons/digits --format latex -o results.tex",
    "gpmt table sweeps/digits -o results.csv",
    "gpmt table runs/gp-mt --layers --format latex",
)


def table(
    paths: ReportPaths,
    layers: Annotated[
        bool,
        typer.Option(
            "--layers",
            help="The blocks of each run, plan or file, in place of accuracies; plans and files have no others.",
            show_default=False,
        ),
    ] = False,
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="FORM",
            help="markdown, latex (with booktabs) or csv (all digits); if not given, as the end of -o says (.md, "
            ".tex, .csv), or markdown.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--output", "--out", "-o", metavar="FILE", help="Write the table; if not given, it is printed."
        ),
    ] = None,
    force: Force = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Write accuracies as a table, mean ± deviation over seeds and the best in bold, or the blocks of a network.

    Of sweeps, comparisons and runs it has a line for each method and a column for each sparsity. Of plans and files
    of weights, and with --layers of runs, it has a line for each block.
    """
    chosen = form_of(form, out)
    check_files(paths, out, force=force)

    report = read_sources(paths, quiet=quiet or as_json)
    scored = report.grids or any(subject.kind == "run" for subject in report.subjects)
    tables = layers_tables(report) if layers or not scored else results_tables(report)
    text = written(tables, chosen)
    if out is not None:
        with atomic_path(out) as file:
            file.write_text(text, encoding="utf-8")
    if as_json:
        print_json(
            {
                "output": None if out is None else str(out),
                "tables": [{"title": each.title, "records": list(each.records)} for each in tables],
            }
        )
    elif out is None:
        print(text, end="")
    elif not quiet:
        print(f"wrote {out}")
