"""A small comparison on the digits, and results that its runs might have."""

from collections.abc import Callable, Collection
from typing import Any

from gpmt.training.compare.comparison import Comparison, make_comparison
from gpmt.training.sweep.grid import Point
from gpmt.training.sweep.results import result_row


def small_comparison(**changes: Any) -> Comparison:
    asked = {"methods": ["GP", "gradual"], "sparsities": ["0.9", "0.95"], "seeds": [0, 1], "epochs": 6}
    return make_comparison("digits", **asked | changes, look_up=False)


def results_of(
    comparison: Comparison,
    top1: Callable[[Point], float],
    *,
    failed: dict[str, str] | None = None,
    infeasible: dict[str, str] | None = None,
    to_do: Collection[str] = (),
    dead: Collection[str] = (),
) -> dict[str, Any]:
    """Return the results of a sweep; some runs, by title, failed, are infeasible or to do, or left dead tensors."""
    failed, infeasible = failed or {}, infeasible or {}
    points = [point for point in comparison.grid.points if point.title not in infeasible]
    ended = [point for point in points if point.title not in {*failed, *to_do}]
    return {
        "title": comparison.base.title,
        "axes": list(comparison.grid.axes),
        "total": len(points),
        "runs": [result_row(p, metrics(p, top1(p), ["conv"] if p.title in dead else [])) for p in ended],
        "failed": [{"run": run, "folder": "", "error": error} for run, error in failed.items()],
        "infeasible": [{"run": run, "folder": "", "error": error} for run, error in infeasible.items()],
    }


def metrics(point: Point, top1: float, dead: list[str]) -> dict[str, Any]:
    """Return what a run writes to metrics.json, as far as tables need it."""
    score = {"top1": top1, "top5": 1.0, "loss": 0.5}
    one_shot = point.recipe.prune.schedule == "one-shot"
    return {
        "seed": point.recipe.seed,
        "dense": score,
        "pruned": {**score, "top1": 0.1} if one_shot else None,
        "recalibrated": None,
        "finetuned": score,
        "sparsity": float(point.values["sparsity"]),
        "weights": 1000,
        "kept": round(1000 * (1 - float(point.values["sparsity"]))),
        "fewest_kept": {"name": "conv", "kept": 0 if dead else 3, "weights": 50},
        "dead": dead,
        "macs": {"dense": 2000, "sparse": 300},
        "seconds": {"dense": 1.0, "prune": 0.5, "finetune": 2.0},
        "verified": True,
    }
