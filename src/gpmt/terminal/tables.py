"""Tables for the terminal: one line a tensor, and a line of totals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import IO, TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gpmt.terminal.density_bars import SCALE, WIDTH, bar, curve, shows_blocks
from gpmt.terminal.fitting import Column, draw_table, fits

if TYPE_CHECKING:  # PyTorch is not needed to draw what others counted
    from gpmt.core.compare import Difference
    from gpmt.core.scope.tensor_count import TensorCount
    from gpmt.formats.arrays import MaskArray
    from gpmt.planning.plan import Plan
    from gpmt.verification import Verification

Macs = Mapping[str, int | None]

UNBOUNDED = 10_000
"""Cells in a line of what is not a terminal."""
_FEW = 4
"""Of fewer tensors the densities are not drawn over depth."""
_STYLES = {"ok": "green", "warning": "yellow", "failed": "bold red"}


@dataclass(frozen=True)
class Line:
    """One tensor, or one block, in a table; a column whose value is None on every line is left out.

    `binds` is in how many of its blocks the minimum decides; `densities` are those of its blocks, if it has several;
    `floor` is what it keeps at least, None where that is not known.
    """

    name: str
    shape: Sequence[int]
    numel: int
    kept: int
    binds: int | None = None
    live_outputs: str | None = None
    densities: Sequence[float] = ()
    floor: int | None = None


def console(*, stderr: bool = False, file: IO[str] | None = None) -> Console:
    """Return a console that colours on terminals, and elsewhere writes plain lines of any length."""
    made = Console(stderr=stderr, file=file, highlight=False, emoji=False, markup=False)
    if not made.is_terminal:
        made.width = UNBOUNDED
    return made


def plan_table(plan: Plan, *, macs: Macs | None = None, blocks: bool = False, out: Console) -> Table:
    """Draw a plan: the number of weights that each tensor keeps, and where the minimum decides it.

    A tensor with several blocks is one line, with the smallest and the median share that they keep; with `blocks`,
    every block is a line.
    """
    if blocks:
        rows = [
            Line(
                row.name,
                row.shape,
                row.numel,
                row.kept,
                int(row.binds) if plan.minimums else None,
                floor=row.floor,
            )
            for row in plan.blocks
        ]
        return _tensor_table(rows, None, out, unit=plan.unit, what="block")
    rows = [
        Line(
            row.name,
            row.shape,
            row.numel,
            row.kept,
            sum(block.binds for block in row.blocks) if plan.minimums else None,
            densities=[block.density for block in row.blocks] if len(row.blocks) > 1 else (),
            floor=row.floor,
        )
        for row in plan.tensors
    ]
    return _tensor_table(rows, macs, out, unit=plan.unit)


def count_table(
    rows: Iterable[TensorCount],
    *,
    macs: Macs | None = None,
    unit: str = "weights",
    blocks: bool = False,
    floors: Mapping[str, int] | None = None,
    out: Console,
) -> Table:
    """Draw the contents of a file: weights (or columns) that are not zero, and outputs that have any.

    `floors` are what blocks keep at least, by name.

    A tensor with several blocks is one line, with the smallest and the median share that is not zero in them; with
    `blocks`, every block is a line.
    """
    lines, floors = [], floors or {}
    for row in rows:
        if blocks and row.blocks:
            lines += [
                Line(block.name, (), block.numel, block.kept, floor=floors.get(block.name))
                for block in row.blocks
            ]
            continue
        live = f"{row.live_outputs:,}/{row.outputs:,}"
        densities = [block.kept / max(block.numel, 1) for block in row.blocks]
        known = [floors[name] for name in (row.name, *(b.name for b in row.blocks)) if name in floors]
        floor = sum(known) if known else None
        lines.append(Line(row.name, row.shape, row.numel, row.kept, None, live, densities, floor))
    return _tensor_table(
        lines, None if blocks else macs, out, unit=unit, what="block" if blocks else "tensor"
    )


def mask_table(masks: Mapping[str, MaskArray], *, out: Console) -> Table:
    """Draw masks: the number of weights that each keeps."""
    lines = [Line(name, mask.shape, mask.numel, mask.kept) for name, mask in masks.items()]
    return _tensor_table(lines, None, out)


def difference_table(rows: Sequence[Difference], *, out: Console) -> Table:
    """Draw how tensors differ: values changed, and zeros that one file has and the other has not."""
    total = [
        sum(getattr(row, field) for row in rows)
        for field in ("numel", "changed", "zeros_only_a", "zeros_only_b")
    ]
    columns = [
        Column("shape", [shape_text(row.shape) for row in rows], justify="left", spare=1),
        Column("values", [f"{row.numel:,}" for row in rows], f"{total[0]:,}", spare=10),
        Column("changed", [f"{row.changed:,}" for row in rows], f"{total[1]:,}"),
        Column("largest", ["–" if row.largest is None else f"{row.largest:.3g}" for row in rows], spare=11),
        Column("zero in\nA only", [f"{row.zeros_only_a:,}" for row in rows], f"{total[2]:,}"),
        Column("zero in\nB only", [f"{row.zeros_only_b:,}" for row in rows], f"{total[3]:,}"),
    ]
    return _table([row.name for row in rows], columns, out)


def check_lines(verification: Verification) -> Text:
    """Draw the checks, one line each, coloured by how they went."""
    text = Text()
    for check in verification.checks:
        text.append(f"{check.status:>7}", style=_STYLES[check.status])
        text.append(f"  {check.name}: {check.message}\n")
    text.append("ok" if verification.ok else "FAILED", style=_STYLES["ok" if verification.ok else "failed"])
    text.append(f": {totals(verification.numel, verification.kept, unit=verification.unit)}")
    return text


def totals(numel: int, kept: int, *, unit: str = "weights") -> str:
    """Describe a total in words, e.g. "90 of 100 weights are zero (90.0000%)"."""
    return f"{numel - kept:,} of {numel:,} {unit} are zero ({(numel - kept) / max(numel, 1):.4%})"


def shape_text(shape: Sequence[int]) -> str:
    """Format a shape, e.g. 64×3×7×7."""
    return "×".join(map(str, shape))


def _tensor_table(
    lines: Sequence[Line], macs: Macs | None, out: Console, *, unit: str = "weights", what: str = "tensor"
) -> Table:
    kept, numel = sum(line.kept for line in lines), sum(line.numel for line in lines)
    columns = [
        Column("shape", [shape_text(line.shape) for line in lines], justify="left", spare=1),
        Column(unit, [f"{line.numel:,}" for line in lines], f"{numel:,}", spare=10),
        Column("kept", [f"{line.kept:,}" for line in lines], f"{kept:,}"),
        Column("density", [_share(line.kept, line.numel) for line in lines], _share(kept, numel)),
    ]
    if any(line.densities for line in lines):
        folded = [(len(line.densities), *_spread(line.densities)) for line in lines]
        columns.append(Column("blocks", [f"{count:,}" if count else "" for count, *_ in folded], spare=13))
        columns.append(
            Column("least", [f"{least:.3%}" if count else "" for count, least, _ in folded], spare=14)
        )
        columns.append(Column("median", [f"{mid:.3%}" if count else "" for count, _, mid in folded], spare=9))
    if any(line.binds is not None for line in lines):
        binding = sum(line.binds or 0 for line in lines)
        marks = [_mark(line) for line in lines]
        columns.append(Column("minimum", marks, f"{binding} bind", spare=12))
    if any(line.live_outputs is not None for line in lines):
        columns.append(Column("live outputs", [line.live_outputs or "" for line in lines], spare=2))
    if macs is not None:
        left = [_macs_left(line, macs) for line in lines]
        total = sum(filter(None, left))
        cells = ["–" if value is None else f"{value:,}" for value in left]
        columns.append(Column("MACs", cells, f"{total:,}", spare=11))
    names = [line.name for line in lines]
    bars = _bars(lines, out)
    if out.is_terminal and fits(Column(what, names, "total", "left"), [*columns, bars], out.width):
        columns.insert([column.title for column in columns].index("density") + 1, bars)
    table = _table(names, columns, out, what=what)
    if macs is not None:
        dense = sum(filter(None, macs.values()))
        table.caption = f"MACs without the zeros; with them {dense:,}, so {_share(total, dense)} are left"
        table.caption_justify = "left"
    return table


def density_curve(kept: Sequence[int], numel: Sequence[int], *, out: Console) -> str | None:
    """Draw the densities of tensors in a line, from the first to the last; None for few of them, and in pipes."""
    if len(kept) < _FEW or not out.is_terminal:
        return None
    title = f"density by depth (log scale, .01% to 100%{'; × none left' if 0 in kept else ''}): "
    densities = [part / max(whole, 1) for part, whole in zip(kept, numel, strict=True)]
    blocks = shows_blocks(out)
    line = title + curve(densities, out.width - len(title), blocks=blocks)
    return line if blocks else line.replace("×", "x")


def _bars(lines: Sequence[Line], out: Console) -> Column:
    """Return a column of bars, with lines where floors are."""
    blocks = shows_blocks(out)
    cells = [
        bar(line.kept / max(line.numel, 1), (line.floor or 0) / max(line.numel, 1), blocks=blocks).ljust(
            WIDTH
        )
        for line in lines
    ]
    floor = f"log, {'│' if blocks else '|'} floor" if any(line.floor for line in lines) else "log scale"
    return Column(f"{floor}\n{SCALE}", cells, justify="left")


def _spread(densities: Sequence[float]) -> tuple[float, float]:
    return (min(densities), median(densities)) if densities else (0.0, 0.0)


def _mark(line: Line) -> str:
    if not line.binds:
        return ""
    return f"* {line.binds:,} of {len(line.densities):,}" if line.densities else "* binds"


def _table(names: Sequence[str], columns: Sequence[Column], out: Console, *, what: str = "tensor") -> Table:
    """Draw columns beside the names of tensors; their usual ending goes where names would have to be folded."""
    column = Column(what, names, "total", "left")
    if not fits(column, columns, out.width):
        column = replace(column, cells=[name.removesuffix(".weight") for name in names])
    return draw_table(column, columns, out.width)


def _share(part: int, whole: int) -> str:
    return f"{part / max(whole, 1):.3%}"


def _macs_left(line: Line, macs: Macs) -> int | None:
    from gpmt.macs import sparse_macs

    dense = macs.get(line.name)
    return None if dense is None else sparse_macs(dense, numel=line.numel, kept=line.kept)
