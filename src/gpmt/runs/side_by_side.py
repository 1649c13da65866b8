"""Runs side by side: the settings in which they differ, and what came of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpmt.errors import CheckpointError, RecipeError
from gpmt.formats.run_result import RECIPE, is_run, is_sweep
from gpmt.html_tables import html_table
from gpmt.runs.files import Damaged, count, number, read_json, read_yaml, section
from gpmt.runs.run_summary import METRICS, RunSummary, read_run

STAGES = ("dense", "pruned", "recalibrated", "finetuned")
_FILES = {"model": "model.pt", "masks": "masks.safetensors"}
_NONE = "–"
_WITHOUT_EFFECT = ("title", "about", "expects", "log", "log_online")


@dataclass(frozen=True)
class Compared:
    """One of the runs.

    Attributes:
        name: the shortest end of its path that no other run has.
        settings: those of its recipe, by dotted key.
        results: what came of it, ready for JSON; None for what it does not tell.
        layers: by name of the block, what it holds: ``weights``, ``kept``, ``density``, ``floor`` and ``binds``.
    """

    name: str
    summary: RunSummary
    settings: Mapping[str, Any]
    results: Mapping[str, Any]
    layers: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class SideBySide:
    """Runs in the order given."""

    runs: Sequence[Compared]

    @property
    def settings(self) -> dict[str, list[Any]]:
        """By key the values of settings that differ, one for each run; None where a run lacks one."""
        keys = dict.fromkeys(key for run in self.runs for key in run.settings)
        values = {key: [run.settings.get(key) for run in self.runs] for key in keys}
        return {key: each for key, each in values.items() if any(value != each[0] for value in each)}

    @property
    def layers(self) -> list[str]:
        """The names of the blocks of all runs, in order."""
        return list(dict.fromkeys(name for run in self.runs for name in run.layers))

    def to_dict(self, *, layers: bool = False) -> dict[str, Any]:
        """Return all of it as plain values, ready for JSON."""
        document: dict[str, Any] = {
            "runs": [
                {"name": run.name, "path": str(run.summary.path), "state": run.summary.state, **run.results}
                for run in self.runs
            ],
            "settings": self.settings,
        }
        if layers:
            document["layers"] = [
                {"name": name, "runs": [run.layers.get(name) for run in self.runs]} for name in self.layers
            ]
        return document

    def _repr_html_(self) -> str:
        results: dict[str, list[str]] = {
            "state": [run.summary.state for run in self.runs],
            "sparsity": [_percent(run.results["sparsity"]) for run in self.runs],
            "kept": [_number(run.results["kept"]) for run in self.runs],
            **{
                f"top-1 {name}": [_percent(run.results["top1"][name]) for run in self.runs] for name in STAGES
            },
            "seconds": [_number(run.results["seconds"]) for run in self.runs],
        }
        rows = [[key, *map(str, values)] for key, values in self.settings.items()]
        rows += [[what, *values] for what, values in results.items() if set(values) != {_NONE}]
        return html_table(
            ["", *(run.name for run in self.runs)], rows, title="settings that differ, and results"
        )


def compare_runs(paths: Sequence[Path]) -> SideBySide:
    """Read runs to set them side by side.

    Raises:
        RecipeError: there is one run alone, or a path is not the folder of a run.
        CheckpointError: a file of a run is damaged.
    """
    for path in paths:
        _check(path)
    if len(paths) < 2:
        raise RecipeError(f"{paths[0]} is one run; give another to compare it with")
    names = _short_names(paths)
    return SideBySide([_read(path, name) for path, name in zip(paths, names, strict=True)])


def _check(path: Path) -> None:
    if is_run(path):
        return
    if is_sweep(path):
        raise RecipeError(
            f"{path} is the folder of a sweep; give those of its runs, which gpmt runs --all lists"
        )
    raise RecipeError(f"{path} is not the folder of a run; give runs alone, or a recipe and KEY=VALUE")


def _read(path: Path, name: str) -> Compared:
    summary = read_run(path)
    if summary.state == "damaged":
        raise CheckpointError(f"{path}: {summary.note}; leave it out, or run it again with --force")
    try:
        metrics = read_json(path / METRICS) if (path / METRICS).exists() else {}
        recipe = section(metrics, "recipe") or read_yaml(path / RECIPE)
    except Damaged as damage:  # written anew since
        raise CheckpointError(f"{path}: {damage}; try again") from None
    settings = _flat({key: value for key, value in recipe.items() if key not in _WITHOUT_EFFECT})
    return Compared(name, summary, settings, _results(summary, metrics), _layers(metrics))


def _results(summary: RunSummary, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a run came to; of one without a result, what it measured so far."""
    plan, fewest, macs = (section(metrics, key) for key in ("plan", "fewest_kept", "macs"))
    layers = _layers(metrics).values()
    top1 = {stage: number(section(metrics, stage).get("top1")) for stage in STAGES}
    if not metrics:
        top1 |= {"dense": summary.dense_top1, "finetuned": summary.top1}
    dead = metrics.get("dead")
    return {
        "sparsity": summary.sparsity,
        "unit": metrics.get("unit") if isinstance(metrics.get("unit"), str) else "weights",
        "weights": count(metrics.get("weights")),
        "kept": count(metrics.get("kept")),
        "min_kept": summary.min_kept,
        "floor": count(plan.get("min_kept")),
        "binding": sum(layer["binds"] is True for layer in layers) if plan else None,
        "fewest_kept": {"kept": count(fewest.get("kept")), "name": fewest.get("name")} if fewest else None,
        "dead": [str(name) for name in dead] if isinstance(dead, list) else None,
        "top1": top1,
        "macs": {key: count(macs.get(key)) for key in ("dense", "sparse")},
        "bytes": {what: _size(summary.path / file) for what, file in _FILES.items()},
        "epochs": summary.epochs,
        "seconds": summary.seconds,
        "finished": summary.when if metrics else None,
    }


def _layers(metrics: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the blocks as counted in the written file, with the floors of the plan."""
    unit = metrics.get("unit")
    planned = {block.get("name"): block for block in _blocks(section(metrics, "plan"))}
    layers = {}
    for block in _blocks(section(metrics, "verification")):
        plan = planned.get(block.get("name"), {})
        numel, kept = count(block.get(str(unit))), count(block.get("kept"))
        layers[str(block.get("name"))] = {
            "weights": numel,
            "kept": kept,
            "density": None if kept is None or not numel else kept / numel,
            "floor": count(plan.get("floor")),
            "binds": plan.get("binds") if isinstance(plan.get("binds"), bool) else None,
        }
    return layers


def _blocks(document: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the blocks of the tensors in a plan or a verification; most tensors are one."""
    for tensor in _mappings(document.get("tensors")):
        yield from _mappings(tensor.get("blocks")) or [tensor]


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    return [row for row in value if isinstance(row, Mapping)] if isinstance(value, list) else []


def _percent(share: float | None) -> str:
    return _NONE if share is None else f"{100 * share:.2f} %"


def _number(value: float | None) -> str:
    return _NONE if value is None else f"{value:,.6g}" if isinstance(value, float) else f"{value:,}"


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _short_names(paths: Sequence[Path]) -> list[str]:
    """Return the shortest ends of the paths that tell them apart; equal paths stay whole.

    >>> _short_names([Path("runs/a/x"), Path("runs/b/x")])
    ['a/x', 'b/x']
    """
    parts = [Path(path).absolute().parts for path in paths]
    for length in range(1, max(map(len, parts))):
        names = ["/".join(each[-length:]) for each in parts]
        if len({*names}) == len(names):
            return names
    return [str(path) for path in paths]
