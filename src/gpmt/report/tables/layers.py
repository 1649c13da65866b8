"""The blocks of a network as a table: how many weights each keeps, with floors and multiply-accumulates."""

from __future__ import annotations

from gpmt.errors import FigureError
from gpmt.report.content.report import Report
from gpmt.report.content.subject import Layer, Subject
from gpmt.report.figures.choice import distinct_titles, why
from gpmt.report.tables.table import Table


def layers_tables(report: Report) -> list[Table]:
    """Return a table for each run, plan and file of weights.

    Raises `FigureError` where there is none, or its blocks are not known.
    """
    subjects = list(report.subjects)
    if not subjects:
        paths = ", ".join(grid.path for grid in report.grids) or "nothing"
        raise FigureError(
            f"{paths} has no blocks of its own; give a run in it, a plan or a file of weights, or leave out --layers"
        )
    return [
        layers_table(subject, title)
        for subject, title in zip(subjects, distinct_titles(subjects), strict=True)
    ]


def layers_table(subject: Subject, title: str = "") -> Table:
    """Return the table of one network; columns that are not known of any block are left out."""
    layers = subject.layers
    if not layers:
        raise FigureError(f"{subject.path} has no blocks to tell of; {why(subject, 'layers')}")
    floors = any(layer.floor is not None for layer in layers)
    macs = any(layer.macs_sparse is not None for layer in layers)
    heads = ["block", "shape", subject.unit, "kept", "density"]
    heads += ["floor"] * floors + ["MACs"] * macs
    rows = [_row(layer, floors=floors, macs=macs) for layer in layers]
    kept, numel = sum(layer.kept for layer in layers), sum(layer.numel for layer in layers)
    total = ["total", "", f"{numel:,}", f"{kept:,}", _share(kept, numel)]
    total += [""] * floors + [f"{sum(layer.macs_sparse or 0 for layer in layers):,}"] * macs
    notes = ["* the floor decides"] if any(layer.binds for layer in layers) else []
    notes += ["† no weight left"] if any(layer.dead for layer in layers) else []
    return Table(
        title=title or subject.title,
        heads=heads,
        rows=[*rows, total],
        totals=True,
        notes=notes,
        records=[
            {
                "block": layer.name,
                "tensor": layer.tensor,
                "kind": layer.kind,
                "shape": "x".join(map(str, layer.shape)),
                subject.unit: layer.numel,
                "kept": layer.kept,
                "density": layer.density,
                "floor": layer.floor,
                "binds": layer.binds,
                "outputs": layer.outputs,
                "live_outputs": layer.live_outputs,
                "macs_dense": layer.macs_dense,
                "macs_sparse": layer.macs_sparse,
            }
            for layer in layers
        ],
    )


def _row(layer: Layer, *, floors: bool, macs: bool) -> list[str]:
    mark = "†" if layer.dead else "*" if layer.binds else ""
    shape = "×".join(map(str, layer.shape))
    row = [layer.name, shape, f"{layer.numel:,}", f"{layer.kept:,}{mark}", _share(layer.kept, layer.numel)]
    row += ["–" if layer.floor is None else f"{layer.floor:,}"] * floors
    return row + ["–" if layer.macs_sparse is None else f"{layer.macs_sparse:,}"] * macs


def _share(kept: int, numel: int) -> str:
    return f"{100 * kept / numel:.2f} %" if numel else "–"
