"""The folder of a sweep or a comparison as a grid: its runs by method, settings and sparsity, over the seeds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from gpmt.errors import GpmtError
from gpmt.report.content.bench_file import BENCH, read_bench
from gpmt.report.content.documents import Document, read_document
from gpmt.report.content.grid import TO_DO, Cell, Grid, Spread
from gpmt.report.content.wording import as_fraction, sparsity_text, starts_trained
from gpmt.runs.log import NOT_FINITE

SWEEP, RESULTS, METRICS = "sweep.json", "results.json", "metrics.json"
_SPARSITY, _SEED, _FLOOR = ("sparsity", "prune.sparsity"), ("seed",), ("min_kept", "prune.min_kept")


def read_sweep(path: Path, problems: list[str]) -> Grid:
    """Read the folder of a sweep: sweep.json, and the metrics of its runs that are finished.

    What cannot be read of it is added to `problems`, a sentence each, and left out.

    Raises `ReportError` without a sweep.json that can be read.
    """
    return read_grid(path, problems).sweep()


@dataclass(frozen=True)
class Run:
    """A run of a grid: its place, what it changes, and its metrics if it is finished."""

    folder: Path
    variant: str
    values: Mapping[str, str]
    metrics: Document | None
    failed: str
    infeasible: str

    @property
    def seed(self) -> int:
        """The seed, from the metrics or the settings."""
        noted = None if self.metrics is None else self.metrics.count("seed")
        text = self.values.get("seed", "0")
        return noted if noted is not None else int(text) if text.isdecimal() else 0

    @property
    def asked(self) -> float:
        """The sparsity that was asked for."""
        given: Any = next((self.values[key] for key in _SPARSITY if key in self.values), None)
        if given is None and self.metrics is not None:
            given = self.metrics.object("recipe").object("prune").values.get("sparsity")
        exact = as_fraction(given)
        return 0.0 if exact is None else float(exact)

    @property
    def lost(self) -> str:
        """Why there is no result, after the seed; "" where there is one."""
        if self.metrics is not None:
            return ""
        if self.infeasible:
            return f"seed {self.seed} is infeasible: {self.infeasible}"
        if self.failed.startswith(NOT_FINITE):
            return f"seed {self.seed} diverged"
        return f"seed {self.seed} failed: {self.failed}" if self.failed else f"seed {self.seed} {TO_DO}"


@dataclass(frozen=True)
class GridFolder:
    """All runs of the folder of a sweep, and what sweep.json says of them."""

    path: Path
    about: Document
    runs: Sequence[Run]

    @property
    def finished(self) -> list[Run]:
        """The runs that have metrics."""
        return [run for run in self.runs if run.metrics is not None]

    @property
    def documents(self) -> list[Document]:
        """The metrics of the runs that have some."""
        return [run.metrics for run in self.runs if run.metrics is not None]

    @property
    def epochs(self) -> int | None:
        """Epochs of training of each run; None where runs differ in them."""
        found = {_epochs(metrics) for metrics in self.documents}
        return found.pop() if len(found) == 1 else None

    def sweep(self) -> Grid:
        """Return the grid of the runs, a cell for all that differ in the seed alone."""
        groups: dict[tuple[Any, ...], list[Run]] = {}
        for run in self.runs:
            rest = tuple((key, value) for key, value in run.values.items() if key not in _SEED)
            groups.setdefault((run.variant, *rest), []).append(run)
        cells = [self._cell(members) for members in groups.values()]
        return self.grid("sweep", cells)

    def grid(
        self,
        kind: Literal["sweep", "comparison"],
        cells: Sequence[Cell],
        *,
        dense: Spread | None = None,
    ) -> Grid:
        """Return a grid with these cells, and what all grids have."""
        first = self.documents[0] if self.documents else Document({})
        mixed = [
            f"its runs come from several {what}, so that they may not compare: {', '.join(sorted(values))}"
            for what, values in self._origins().items()
            if len(values) > 1
        ]
        left = sum(text.endswith(TO_DO) for cell in cells for text in cell.lost)
        return Grid(
            kind=kind,
            title=self.about.text("title") or self.path.name,
            path=str(self.path),
            cells=cells,
            dense=dense,
            epochs=self.epochs,
            total=sum(not run.infeasible for run in self.runs),
            finished=len(self.finished),
            runs=[str(run.folder) for run in self.finished],
            versions={key: str(value) for key, value in self.about.object("versions").values.items()},
            machine=first.object("machine").values,
            commands=self.about.texts("commands"),
            missing=[
                *([f"{left:,} runs: they have not finished; {self._resume} goes on"] if left else []),
                *_missing(cells),
            ],
            warnings=[*mixed, *lost_warnings(cells)],
        )

    @property
    def _resume(self) -> str:
        commands = self.about.texts("commands")
        return f"{commands[-1]} --resume" if commands else "the same command with --resume"

    def _origins(self) -> dict[str, set[str]]:
        """Return the networks, data, processors and versions that the runs come from, without those that are axes."""
        whats = ("networks", "data sets", "processors", "versions of gpmt")
        found: dict[str, set[str]] = {what: set() for what in whats}
        axes = {key for run in self.runs for key in run.values}
        for metrics in self.documents:
            recipe = metrics.object("recipe")
            if "model" not in axes:
                found["networks"].add(recipe.text("model"))
            if not axes & {"data.name", "name"}:
                found["data sets"].add(recipe.object("data").text("name"))
            found["processors"].add(str(metrics.object("machine").values.get("cpu")))
            found["versions of gpmt"].add(str(metrics.object("versions").values.get("gpmt")))
        return found

    def _cell(self, members: Sequence[Run]) -> Cell:
        values = members[0].values
        others = [
            f"{key}={value}"
            for key, value in values.items()
            if key not in (*_SPARSITY, *_SEED, *_FLOOR) or (key in _SPARSITY and as_fraction(value) is None)
        ]
        floor = next((value for key, value in values.items() if key in _FLOOR and value != "0"), "")
        return measured_cell(members, method=members[0].variant, floor=floor, setting=", ".join(others))


def read_grid(path: Path, problems: list[str]) -> GridFolder:
    """Read sweep.json, results.json and the metrics of the finished runs; see `read_sweep`."""
    about = read_document(path / SWEEP, "the folder of the sweep is made anew by its command with --force")
    results = Document({})
    if (path / RESULTS).is_file():
        try:
            results = read_document(path / RESULTS, "the next run of the sweep writes it anew, with --resume")
        except GpmtError as error:
            problems.append(str(error))
    failed = _errors(results.rows("failed"))
    infeasible = _errors(results.rows("infeasible"))
    runs = []
    for row in about.rows("runs"):
        name = row.text("folder")
        values = {key: str(value) for key, value in row.object("values").values.items()}
        metrics = _metrics(path / name, problems) if name and Path(name).name == name else None
        runs.append(
            Run(
                path / name,
                row.text("variant"),
                values,
                metrics,
                failed.get(name, ""),
                infeasible.get(name, ""),
            )
        )
    return GridFolder(path, about, runs)


def measured_cell(members: Sequence[Run], *, method: str, floor: str, setting: str) -> Cell:
    """Return the cell of runs that differ in the seed alone."""
    found = [(run, run.metrics) for run in members if run.metrics is not None]
    documents = [metrics for _, metrics in found]

    def spread(stage: str, measure: str = "top1") -> Spread | None:
        return Spread.of(metrics.object(stage).number(measure) for metrics in documents)

    trained = [metrics for metrics in documents if starts_trained(metrics.object("recipe"), metrics)]

    macs = [_share(metrics.object("macs")) for metrics in documents]
    known = [share for share in macs if share is not None]
    fewest = [kept for m in documents if (kept := m.object("fewest_kept").count("kept")) is not None]
    return Cell(
        method=method,
        floor=floor,
        setting=setting,
        asked=members[0].asked,
        seeds=tuple(run.seed for run, _ in found),
        sparsity=Spread.of(metrics.number("sparsity") for metrics in documents),
        dense=spread("dense") if len(trained) == len(documents) else None,
        pruned=spread("pruned"),
        recalibrated=spread("recalibrated"),
        finetuned=spread("finetuned"),
        finetuned_top5=spread("finetuned", "top5"),
        macs=fmean(known) if known and len(known) == len(macs) else None,
        latency_ms=latency_of([run for run, _ in found]),
        fewest=min(fewest, default=None),
        dead=max((len(metrics.texts("dead")) for metrics in documents), default=0),
        lost=_lost(members),
    )


def _lost(members: Sequence[Run]) -> tuple[str, ...]:
    """Say which seeds have no result and why; once where none can have one for the same reason."""
    [reason, *others] = {run.infeasible for run in members}
    if reason and not others and len(members) > 1:
        return (f"all seeds are infeasible: {reason}",)
    return tuple(run.lost for run in members if run.lost)


def latency_of(runs: Sequence[Run]) -> float | None:
    """Return the mean latency of runs that have all measured it, in ms with the runtime."""
    found = []
    for run in runs:
        if not (run.folder / BENCH).is_file():
            return None
        try:
            bench = read_bench(run.folder / BENCH)
        except GpmtError:
            return None
        if not bench.is_of(run.folder):
            return None
        found.append(bench.latency.sparse_ms)
    return fmean(found) if found else None


def lost_warnings(cells: Sequence[Cell]) -> list[str]:
    """Say which cells lack seeds that diverged, failed or cannot be."""
    return [
        f"{cell.label} at {sparsity_text(cell.asked)}: {text}"
        for cell in cells
        for text in cell.lost
        if not text.endswith(TO_DO)
    ]


def _missing(cells: Sequence[Cell]) -> list[str]:
    missing = []
    if all(cell.macs is None for cell in cells):
        missing.append("multiply-accumulates: no run has counted them")
    if all(cell.latency_ms is None for cell in cells):
        missing.append(
            "latency: it is not measured; gpmt bench RUN --json > RUN/bench.json does it for each run"
        )
    return missing


def _metrics(folder: Path, problems: list[str]) -> Document | None:
    """Return the metrics of a run; None where it is not finished, or they cannot be read."""
    path = folder / METRICS
    if not path.is_file():
        return None
    again = "remove it, and the sweep makes the run again with --resume"
    try:
        metrics = read_document(path, again)
    except GpmtError as error:
        problems.append(str(error))
        return None
    if metrics.number("sparsity") is None:
        problems.append(f"{path} has no sparsity; {again}")
        return None
    return metrics


def _errors(rows: Iterable[Document]) -> dict[str, str]:
    return {row.text("folder"): row.text("error") for row in rows}


def _epochs(metrics: Document) -> int:
    recipe = metrics.object("recipe")
    return sum(recipe.object(phase).count("epochs") or 0 for phase in ("dense", "finetune"))


def _share(macs: Document) -> float | None:
    dense, sparse = macs.number("dense"), macs.number("sparse")
    return sparse / dense if dense and sparse is not None else None
