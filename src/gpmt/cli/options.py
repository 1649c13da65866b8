"""Options that several commands share, and their output: results on stdout, progress on stderr."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from gpmt.cli.narration import set_verbose

AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON document instead of text.", show_default=False)
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print nothing but errors and warnings.", show_default=False)
]
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose",
        "-v",
        callback=set_verbose,
        help="Print how long each step takes, and where an error was raised.",
        show_default=False,
    ),
]
Sparsity = Annotated[
    str,
    typer.Option(
        "--sparsity",
        "-s",
        metavar="RATIO",
        help="Fraction of the prunable weights to prune: 0.9, 90% or 9/10.",
        show_default=False,
    ),
]
MinKept = Annotated[
    str,
    typer.Option(
        help="Weights that every tensor keeps: a number, or percent of all prunable weights such as 0.05%."
    ),
]
Scope = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATTERN",
        help="Prune only these tensors: a name, a glob, or re:REGEX; may be given several times.",
    ),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(metavar="PATTERN", help="Leave these tensors alone; may be given several times."),
]
Granularity = Annotated[
    str,
    typer.Option(
        help="weight, or column for whole columns of matrices; --sparsity and --min-kept then count these."
    ),
]
RecipeName = Annotated[str, typer.Argument(help="A shipped recipe's name, or the path of a YAML file.")]
ModelName = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="NAME",
        help="The network these weights belong to, such as resnet20 or torchvision:resnet50, to know its "
        "layers and count MACs. Files of gpmt run name it themselves.",
    ),
]
InputShape = Annotated[
    str | None, typer.Option("--input", metavar="CxHxW", help="Shape of one input, such as 3x224x224.")
]


def examples(*commands: str) -> str:
    """Return commands for the end of a help page, each on a line of its own."""
    return "\n\n".join(["[bold]Examples[/bold]", *(command.replace("[", r"\[") for command in commands)])


def print_json(document: Mapping[str, Any]) -> None:
    """Print a document on stdout."""
    print(json.dumps(document, indent=2, allow_nan=False))


def check_exists(path: Path) -> None:
    """Raise `CheckpointError` where there is nothing at `path`, before PyTorch is imported to read it."""
    if not path.exists():
        from gpmt.formats.file_format import read_head

        read_head(path)


def check_request(*, sparsity: str | None = None, min_kept: str = "0", granularity: str = "weight") -> None:
    """Raise `BudgetError` for a value that cannot be right for any file, before PyTorch is imported."""
    from gpmt.core.budget import parse_min_kept, parse_sparsity

    if sparsity is not None:
        parse_sparsity(sparsity)
    parse_min_kept(min_kept, 0, unit="columns" if granularity == "column" else "weights")
