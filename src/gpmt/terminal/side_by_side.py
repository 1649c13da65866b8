"""Runs side by side: a column for each run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from gpmt.runs.side_by_side import STAGES, SideBySide
from gpmt.terminal.durations import duration
from gpmt.terminal.fitting import Column, draw_table, fits, fold
from gpmt.terminal.tables import UNBOUNDED

_NONE = "–"
_WIDEST = 28
"""Values of settings are folded to this width."""
_STAGES = {"dense": "dense", "pruned": "pruned", "recalibrated": "recalibrated", "finetuned": "fine-tuned"}


def print_side_by_side(compared: SideBySide, *, layers: bool = False, out: Console) -> None:
    """Print the settings in which runs differ, what came of them, and with `layers` the density of every block."""
    if compared.settings:
        _print_all(settings_table(compared, width=out.width), out)
    else:
        out.print("the settings are the same")
    _print_all(results_table(compared, width=out.width), out)
    if layers:
        _print_all(layers_table(compared, width=out.width), out)
        out.print("* the minimum decides it; † no weight is left")
    for run in compared.runs:
        if run.summary.state != "finished":
            note = f": {run.summary.note}" if run.summary.note else ""
            out.print(
                f"{run.name} has no result yet, its accuracies are those so far; {run.summary.state}{note}"
            )
        elif run.summary.note:
            out.print(f"{run.name}: {run.summary.note}")


def settings_table(compared: SideBySide, *, width: int = UNBOUNDED) -> list[Table]:
    """Draw the settings in which the runs differ."""
    settings = compared.settings
    columns = [
        [fold(_text(values[place]), _WIDEST) for values in settings.values()]
        for place in range(len(compared.runs))
    ]
    return _tables("setting", list(settings), compared, columns, width)


def results_table(compared: SideBySide, *, width: int = UNBOUNDED) -> list[Table]:
    """Draw what came of the runs; lines that none of them has anything for are left out."""
    lines = [(title, [_or_none(value, run.results) for run in compared.runs]) for title, value in _lines()]
    told = [(title, values) for title, values in lines if any(value != _NONE for value in values)]
    columns = [[values[place] for _, values in told] for place in range(len(compared.runs))]
    return _tables("", [title for title, _ in told], compared, columns, width)


def layers_table(compared: SideBySide, *, width: int = UNBOUNDED) -> list[Table]:
    """Draw the density of every block in every run; * where the minimum decides it, † where nothing is left."""
    columns = [[_density(run.layers.get(name)) for name in compared.layers] for run in compared.runs]
    return _tables("density of", compared.layers, compared, columns, width)


def _print_all(tables: Iterable[Table], out: Console) -> None:
    for table in tables:
        out.print(table)


def _tables(
    title: str, names: Sequence[str], compared: SideBySide, cells: Sequence[Sequence[str]], width: int
) -> list[Table]:
    """Draw a column for each run, over several tables where they do not fit beside each other."""
    first = Column(title, names, justify="left")
    columns = [Column(run.name, each) for run, each in zip(compared.runs, cells, strict=True)]
    tables, group = [], columns[:1]
    for column in columns[1:]:
        if fits(first, [*group, column], width):
            group.append(column)
        else:
            tables.append(draw_table(first, group, width))
            group = [column]
    return [*tables, draw_table(first, group, width)]


def _lines() -> Iterable[tuple[str, Callable[[Mapping[str, Any]], str | None]]]:
    """Return the title of each line, and its text from the results of a run."""
    yield "sparsity", lambda run: _percent(run["sparsity"], 4)
    yield "weights", lambda run: _number(run["weights"])
    yield "kept", lambda run: _number(run["kept"])
    yield "floor", lambda run: _number(run["floor"]) or None
    yield "layers at the floor", lambda run: _number(run["binding"])
    yield "fewest kept", lambda run: _number((run["fewest_kept"] or {}).get("kept"))
    yield "dead layers", lambda run: None if run["dead"] is None else str(len(run["dead"]))
    for stage in STAGES:
        yield f"top-1 {_STAGES[stage]}", lambda run, stage=stage: _percent(run["top1"][stage], 2)  # type: ignore[misc]
    yield "MACs left", lambda run: _macs(run["macs"])
    yield "bytes of the masks", lambda run: _number(run["bytes"]["masks"])
    yield "bytes of model.pt", lambda run: _number(run["bytes"]["model"])
    yield "epochs", lambda run: _number(run["epochs"])
    yield "time", lambda run: None if run["seconds"] is None else duration(run["seconds"])


def _or_none(value: Callable[[Mapping[str, Any]], str | None], results: Mapping[str, Any]) -> str:
    return value(results) or _NONE


def _density(layer: Mapping[str, Any] | None) -> str:
    if layer is None or layer["density"] is None:
        return f"{_NONE} "
    mark = "†" if not layer["kept"] else "*" if layer["binds"] else " "
    return f"{layer['density']:.3%}{mark}"


def _macs(macs: Mapping[str, int | None]) -> str | None:
    dense, sparse = macs["dense"], macs["sparse"]
    return None if sparse is None or not dense else f"{sparse:,} ({sparse / dense:.1%})"


def _percent(share: float | None, digits: int) -> str | None:
    return None if share is None else f"{share:.{digits}%}"


def _number(value: int | None) -> str | None:
    return None if value is None else f"{value:,}"


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return _NONE if value is None else str(value).lower() if isinstance(value, bool) else str(value)
