"""Folders of runs and sweeps made by hand, with the files that runs write."""

import json
from pathlib import Path
from typing import Any

import yaml

RECIPE: dict[str, Any] = {
    "title": "a network on digits",
    "model": "mobilenet-digits",
    "seed": 0,
    "data": {"name": "digits", "root": None},
    "dense": {"epochs": 2, "lr": 0.1},
    "prune": {
        "sparsity": 0.9,
        "min_kept": "0.25%",
        "allocation": "exact",
        "pattern": None,
        "method": "hard",
        "schedule": "one-shot",
    },
    "finetune": {"epochs": 2, "lr": 0.01},
}
HISTORY = """phase,epoch,test_top1,seconds,recalibrated_top1,sparsity
dense,0,0.1,,,
dense,1,0.7,1.5,,
dense,2,0.9,1.5,,
finetune,0,0.2,,0.5,
finetune,1,0.8,2.0,0.85,0.9
"""


def tensor(name: str, weights: int, kept: int, *, floor: int = 10) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a tensor as the verification and as the plan of a run describe it."""
    counts = {"name": name, "shape": [weights], "weights": weights, "kept": kept, "density": kept / weights}
    return counts, counts | {"floor": min(floor, weights), "binds": kept == floor}


def metrics(recipe: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """Return what a finished run with two layers of 100 and 900 weights reports."""
    tensors = [tensor("conv.weight", 100, 40), tensor("fc.weight", 900, 10)]
    recipe = RECIPE if recipe is None else recipe
    return {
        "title": recipe["title"],
        "seed": recipe["seed"],
        "dense": {"top1": 0.9, "top5": 1.0, "loss": 0.2},
        "pruned": {"top1": 0.2, "top5": 0.6, "loss": 2.0},
        "recalibrated": None,
        "finetuned": {"top1": 0.875, "top5": 1.0, "loss": 0.3},
        "sparsity": 0.95,
        "unit": "weights",
        "weights": 1000,
        "kept": 50,
        "parameters": 1100,
        "macs": {"dense": 10_000, "sparse": 2_500},
        "fewest_kept": {"name": "fc.weight", "kept": 10, "weights": 900},
        "verified": True,
        "dead": [],
        "verification": {"tensors": [counts for counts, _ in tensors]},
        "plan": {"min_kept": 10, "threshold": 0.5, "tensors": [planned for _, planned in tensors]},
        "seconds": {"dense": 3.0, "prune": 0.5, "finetune": 4.0},
        "started": "2026-01-01T10:00:00+00:00",
        "finished": "2026-01-01T10:00:08+00:00",
        "recipe": recipe,
        **changes,
    }


def changed(**sections: Any) -> dict[str, Any]:
    """Return the recipe with other values in these sections."""
    return RECIPE | {
        name: RECIPE[name] | value if isinstance(value, dict) else value for name, value in sections.items()
    }


def finished_run(path: Path, recipe: dict[str, Any] | None = None, **changes: Any) -> Path:
    """Make the folder of a finished run."""
    stopped_run(path, recipe, "")
    (path / "metrics.json").write_text(json.dumps(metrics(recipe, **changes)))
    return path


def stopped_run(path: Path, recipe: dict[str, Any] | None = None, last_line: str = "") -> Path:
    """Make the folder of a run that ended in its last epoch; `last_line` ends its log."""
    path.mkdir(parents=True)
    (path / "recipe.yaml").write_text(yaml.safe_dump(RECIPE if recipe is None else recipe))
    (path / "history.csv").write_text(HISTORY)
    (path / "log.txt").write_text(f"2026-01-01 10:00:00 a network on digits\n{last_line}")
    return path


def sweep(path: Path, *names: str, failed: dict[str, str] | None = None, missing: int = 0) -> Path:
    """Make the folder of a sweep with finished runs; `missing` further ones have no folder yet."""
    path.mkdir(parents=True)
    for number, name in enumerate(names):
        finished_run(
            path / name,
            changed(seed=number, prune={"sparsity": 0.9 + number / 100}),
            sparsity=0.9 + number / 100,
        )
    failures = failed or {}
    others = [*failures, *(f"later{number}" for number in range(missing))]
    (path / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    runs = [{"folder": name} for name in (*names, *(name for name in others if name not in names))]
    (path / "sweep.json").write_text(json.dumps({"title": "a sweep", "runs": runs}))
    results = {"failed": [{"folder": name, "error": why} for name, why in failures.items()], "infeasible": []}
    (path / "results.json").write_text(json.dumps(results))
    return path
