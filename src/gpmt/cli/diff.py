"""``gpmt diff``: what differs between two files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gpmt.cli.narration import working
from gpmt.cli.options import AsJson, Quiet, Verbose, check_exists, examples, print_json
from gpmt.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

    from gpmt.core.compare import Comparison, Values

    _Content = tuple[str, Mapping[str, Tensor] | Mapping[str, Values]]

EXAMPLES = examples(
    "gpmt diff dense.pth pruned.pth", "gpmt diff masks-seed0.safetensors masks-seed1.safetensors"
)


def diff(
    a: Annotated[
        Path, typer.Argument(metavar="A", help="A checkpoint, a run's folder, or masks that gpmt wrote.")
    ],
    b: Annotated[Path, typer.Argument(metavar="B", help="Another of the same kind.")],
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Compare the tensors of two files: names, shapes, types, values, and where the zeros are.

    Exit code 0: they are equal; 1: they differ; 2: a file is not valid; 130: interrupted.
    """
    check_exists(a)
    check_exists(b)

    from gpmt.core.compare import compare

    with working(f"comparing {a} and {b}", quiet=quiet or as_json):
        (kind_a, tensors_a), (kind_b, tensors_b) = _arrays(a, b) or (_tensors(a), _tensors(b))
        if kind_a != kind_b:
            raise CheckpointError(
                f"{a} holds {kind_a}, and {b} holds {kind_b}; give two files with weights, or two with masks"
            )
        comparison = compare(tensors_a, tensors_b)
    if as_json:
        print_json({"a": str(a), "b": str(b), **comparison.to_dict()})
    elif not quiet:
        _print(comparison, a, b)
    if not comparison.equal:
        raise typer.Exit(1)


def _arrays(*paths: Path) -> list[_Content] | None:
    """Return what the files hold where all can be read without PyTorch."""
    from gpmt.formats.arrays import read_masks, read_weights

    found: list[_Content] = []
    for path in paths:
        if (masks := read_masks(path)) is not None:
            found.append(("masks", masks))
        elif (weights := read_weights(path)) is not None:
            found.append(("weights", weights.tensors))
        else:
            return None
    return found


def _tensors(path: Path) -> _Content:
    """Return what a file holds, weights or masks, and these by name."""
    from gpmt.formats.load import holds_masks, load
    from gpmt.masks import Masks

    return ("masks", Masks.load(path)) if holds_masks(path) else ("weights", load(path).state_dict)


def _print(comparison: Comparison, a: Path, b: Path) -> None:
    from gpmt.terminal.tables import console, difference_table

    screen, rows = console(), comparison.tensors
    changed = [row for row in rows if row.changed]
    if changed:
        screen.print(difference_table(changed, out=screen))
    for path, names in ((a, comparison.only_a), (b, comparison.only_b)):
        for name in names:
            screen.print(f"only in {path}: {name}")
    for name, (left, right) in comparison.unlike.items():
        screen.print(f"{name}: {left} in {a}, {right} in {b}")
    zeros_a, zeros_b = sum(row.zeros_only_a for row in rows), sum(row.zeros_only_b for row in rows)
    screen.print(
        f"zeros: {zeros_a:,} only in {a}, {zeros_b:,} only in {b}, {sum(r.zeros_both for r in rows):,} in both"
    )
    values = sum(row.numel for row in rows)
    if comparison.equal:
        screen.print(f"equal: {len(rows)} tensors, {values:,} values")
    else:
        moved = sum(row.changed for row in rows)
        screen.print(
            f"differ: {moved:,} of {values:,} values in {len(changed)} of {len(rows)} common tensors"
        )
