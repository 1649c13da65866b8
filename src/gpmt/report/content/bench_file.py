"""Latencies that ``gpmt bench --json`` has measured, and which network they are of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gpmt.errors import ReportError
from gpmt.report.content.documents import Document, read_document
from gpmt.report.content.subject import Latency

BENCH = "bench.json"
"""The file in a run's folder that has the latencies of its network."""


@dataclass(frozen=True)
class Bench:
    """A measurement, and the path of the weights as the command was given it."""

    latency: Latency
    weights: str

    def is_of(self, path: Path) -> bool:
        """Whether the weights are those of a path: the file, or the folder of a run or its model.pt."""
        given = Path(self.weights)
        ours = {path.resolve(), (path / "model.pt").resolve()}
        return given.resolve() in ours or (not given.is_absolute() and _ends_alike(given, ours))


def is_bench(document: Document) -> bool:
    """Whether a document is the output of ``gpmt bench --json``."""
    return "engines" in document and "processor" in document and "batch" in document


def read_bench(path: Path) -> Bench:
    """Read a file with the output of ``gpmt bench --json``.

    Raises `ReportError` for another file, and for one without the times of PyTorch and gpmt.
    """
    remedy = f"gpmt bench FILE --json > {path} writes it"
    return bench_of(read_document(path, remedy), path)


def bench_of(document: Document, path: Path) -> Bench:
    """Return the measurement in a document that was read; raises as `read_bench`."""
    engines = document.object("engines")
    seconds = {name: engines.object(name).number("seconds") for name in ("gpmt", "eager")}
    sparse, dense, batch = seconds["gpmt"], seconds["eager"], document.count("batch")
    weights = document.text("file")
    again = f"gpmt bench {weights or 'FILE'} --engines eager --json > {path} measures both"
    if sparse is None or dense is None:
        names = {"gpmt": "gpmt's runtime", "eager": "PyTorch"}
        lacking = " and ".join(names[name] for name, value in seconds.items() if value is None)
        raise ReportError(f"{path} has no time of {lacking}; {again}")
    if not batch or not weights:
        raise ReportError(f"{path} does not name its batch or its weights; {again}")
    return Bench(Latency(1e3 * dense, 1e3 * sparse, batch, document.text("processor")), weights)


def _ends_alike(given: Path, ours: set[Path]) -> bool:
    """Whether a path that was given from another folder may name one of ours: the last parts are the same."""
    parts = tuple(part for part in given.parts if part not in (".", ".."))
    return bool(parts) and any(path.parts[-len(parts) :] == parts for path in ours)
