"""Options for files, reading the input of a command, and checking its outputs before it starts."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gpmt.cli.narration import working
from gpmt.errors import CheckpointError

if TYPE_CHECKING:
    from gpmt.formats.checkpoint import Checkpoint

Source = Annotated[
    Path,
    typer.Argument(
        metavar="IN",
        help="Weights, or masks with --weights: a file or folder of any known tool, or a run's folder.",
    ),
]
Values = Annotated[
    str, typer.Option(help="Kept values of a sparse file: exact, or in fewer bits: fp16, bf16 or int8.")
]
KeepSignedZeros = Annotated[
    bool,
    typer.Option(
        "--keep-signed-zeros",
        help="Keep the signs of -0.0, which then count as kept weights; all bits come back.",
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="The weights that IN belongs to, if it holds masks alone."),
]
SkipBad = Annotated[
    bool, typer.Option("--skip-bad", help="Leave out damaged tensors of a sparse file, and name them.")
]
Force = Annotated[bool, typer.Option("--force", "-f", help="Replace what is there already.")]


def read(source: Path, *, weights: Path | None, skip_bad: bool, quiet: bool) -> Checkpoint:
    """Read any kind of file, and print on stderr what was left out of it."""
    from gpmt.formats.load import load

    with working(f"reading {source}", quiet=quiet):
        checkpoint = load(source, weights=weights, skip_bad=skip_bad)
    for sentence in checkpoint.damaged.values():
        print(f"left out: {sentence}", file=sys.stderr)
    return checkpoint


def about_signs(negative_zeros: int) -> str:
    """Return the sentence about zeros whose sign is not in a file, after a line break; "" for none."""
    if not negative_zeros:
        return ""
    count = f"{negative_zeros:,} negative zeros are" if negative_zeros > 1 else "1 negative zero is"
    return f"\n{count} read back as 0.0; --keep-signed-zeros keeps the signs"


def disk_size(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def refuse_existing(source: Path, *outputs: Path | None, force: bool) -> None:
    """Raise `CheckpointError` where an output exists already, is the input, or is named twice."""
    from gpmt.formats.run_result import weights_file

    seen = {source.resolve(), weights_file(source).resolve()}
    for path in outputs:
        if path is None:
            continue
        if path.exists() and not force:
            raise CheckpointError(f"{path} exists; give another name, or --force to replace it")
        if path.resolve() in seen:
            raise CheckpointError(
                f"{path} is named twice, or is the input; give each output a name of its own"
            )
        seen.add(path.resolve())
