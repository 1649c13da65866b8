"""The results of a sweep: a row for every run, and mean and standard deviation over the seeds."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gpmt.atomic import atomic_path
from gpmt.report.content.grid import Spread
from gpmt.training.sweep.grid import Point

PHASES = ("dense", "pruned", "recalibrated", "finetuned")
SCORES = tuple(f"{phase}_{measure}" for phase in PHASES for measure in ("top1", "top5", "loss"))
MEASURES = (
    "sparsity_reached",
    "kept",
    "fewest_kept",
    "dead",
    "macs_dense",
    "macs_sparse",
    *SCORES,
    "seconds",
)
"""The values that are averaged: fractions, counts and seconds. A score that a run lacks, such as that right after
pruning under a gradual schedule, is None."""


def result_row(point: Point, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row of a run; `metrics` is what it wrote to metrics.json.

    `seconds` is the time of all its phases, including the dense one where another run trained it.
    """
    scores = {phase: metrics[phase] or {} for phase in PHASES}
    return {
        "variant": point.variant,
        **{axis: value for axis, value in point.values.items() if axis != "seed"},
        "seed": metrics["seed"],
        "sparsity_reached": metrics["sparsity"],
        "weights": metrics["weights"],
        "kept": metrics["kept"],
        "fewest_kept": metrics["fewest_kept"]["kept"],
        "fewest_kept_in": metrics["fewest_kept"]["name"],
        "dead": len(metrics["dead"]),
        "macs_dense": metrics["macs"]["dense"],
        "macs_sparse": metrics["macs"]["sparse"],
        **{
            f"{phase}_{measure}": score.get(measure)
            for phase, score in scores.items()
            for measure in ("top1", "top5", "loss")
        },
        "seconds": sum(metrics["seconds"].values()),
        "verified": metrics["verified"],
        "folder": point.folder,
    }


def summarise(rows: Iterable[Mapping[str, Any]], axes: Sequence[str]) -> list[dict[str, Any]]:
    """Return, for every variant and values of the axes but the seed, mean and deviation of every measure.

    A measure is ``{"mean": ..., "std": ...}``; `std` is the sample standard deviation (over n − 1), None
    for one seed. A measure that none of the runs has is None.

    >>> runs = [{"variant": "GP", "seed": seed, "finetuned_top1": 0.8 + seed / 10} for seed in (0, 1)]
    >>> runs = [dict.fromkeys(MEASURES) | run for run in runs]
    >>> [row] = summarise(runs, ["seed"])
    >>> row["seeds"], round(row["finetuned_top1"]["mean"], 3), round(row["finetuned_top1"]["std"], 3)
    ([0, 1], 0.85, 0.071)
    """
    labels = ["variant", *(axis for axis in axes if axis != "seed")]
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[label] for label in labels), []).append(row)
    return [
        {
            **dict(zip(labels, values, strict=True)),
            "seeds": [row["seed"] for row in members],
            **{measure: _spread([row[measure] for row in members]) for measure in MEASURES},
        }
        for values, members in groups.items()
    ]


def write_results(folder: Path, results: Mapping[str, Any]) -> None:
    """Write results.json, results.csv (one line per run) and summary.csv (one per group of runs), each atomically."""
    _write(folder / "results.json", json.dumps(results, indent=2) + "\n")
    _write(folder / "results.csv", _csv(results["runs"]))
    _write(folder / "summary.csv", _csv([_flat(row) for row in results["summary"]]))


def _spread(values: Sequence[float | None]) -> dict[str, float | None] | None:
    spread = Spread.of(values)
    return None if spread is None else asdict(spread)


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a summary's row with a column for each mean and each deviation, and the seeds counted."""
    flat: dict[str, Any] = {}
    for key, value in row.items():
        if key == "seeds":
            flat["runs"] = len(value)
        elif key in MEASURES:
            flat.update({f"{key}_{what}": (value or {}).get(what) for what in ("mean", "std")})
        else:
            flat[key] = value
    return flat


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return text.getvalue()


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
