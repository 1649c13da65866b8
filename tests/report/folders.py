"""Folders of runs, sweeps and comparisons as gpmt writes them, of a small network that is not trained."""

from __future__ import annotations

import csv
import json
import warnings
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

import gpmt

HOSTILE = "<script>alert(1)</script>"


class Network(nn.Module):
    """A convolution, a batch norm, queries, keys and values in one tensor, and a layer with markup in its name."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.attention = nn.MultiheadAttention(16, 2, bias=False)
        self.add_module(HOSTILE, nn.Linear(16, 10))


RECIPE: dict[str, Any] = {
    "title": f"A small network {HOSTILE}",
    "model": "small",
    "seed": 0,
    "data": {"name": "digits"},
    "dense": {"epochs": 2, "checkpoint": None},
    "prune": {
        "sparsity": 0.9,
        "min_kept": "20",
        "allocation": "exact",
        "granularity": "weight",
        "method": "hard",
        "schedule": "one-shot",
    },
    "finetune": {"epochs": 3},
}
EPOCHS = [
    {"epoch": 0, "test": {"loss": 2.0, "top1": 0.4, "top5": 0.8, "images": 100}},
    {
        "epoch": 1,
        "lr": 0.1,
        "train": {"loss": 1.5, "top1": 0.5},
        "test": {"loss": 1.0, "top1": 0.7, "top5": 0.9, "images": 100},
        "sparsity": 0.9,
        "seconds": 1.5,
    },
]


def write_run(
    path: Path,
    *,
    seed: int = 0,
    sparsity: float = 0.9,
    min_kept: int = 20,
    top1: float = 0.8,
    recipe: dict[str, Any] | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """Write the folder of a finished run, and return its metrics; `changes` are entries to replace."""
    path.mkdir(parents=True)
    torch.manual_seed(seed)
    network = Network()
    torch.save({"state_dict": network.state_dict()}, path / "dense.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about dead layers, which are wanted here
        plan = gpmt.prune_(network, sparsity=sparsity, min_kept=min_kept)
    torch.save({"state_dict": network.state_dict(), "gpmt": {"plan": plan.to_dict()}}, path / "model.pt")
    plan.masks().save(path / "masks.safetensors")
    verification = gpmt.verify(path / "model.pt", masks=path / "masks.safetensors", sparsity=sparsity)
    prune = RECIPE["prune"] | {"sparsity": sparsity, "min_kept": min_kept}
    settings = RECIPE | {"seed": seed, "prune": prune} | (recipe or {})
    score = {"loss": 0.5, "top1": top1, "top5": 0.95, "images": 100}
    metrics: dict[str, Any] = {
        "title": settings["title"],
        "seed": seed,
        "dense": score | {"top1": 0.9},
        "pruned": score | {"top1": 0.3},
        "recalibrated": None,
        "finetuned": score,
        "sparsity": verification.pruned / verification.numel,
        "unit": "weights",
        "weights": verification.numel,
        "kept": verification.kept,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "macs": {
            "dense": 1000 * verification.numel,
            "sparse": 1000 * verification.kept,
            "layers": {row.name: 1000 * row.numel for row in verification.tensors},
        },
        "fewest_kept": {"name": "conv.weight", "kept": min_kept, "weights": 216},
        "verified": True,
        "dead": [row.name for row in verification.tensors if row.dead],
        "verification": verification.to_dict(),
        "commands": ["gpmt run small"],
        "dense_from": None,
        "plan": plan.to_dict(),
        "history": {"dense": EPOCHS[:1], "finetune": EPOCHS},
        "seconds": {"dense": 1.0, "prune": 0.1, "finetune": 2.0},
        "recipe": settings,
        "machine": {"cpu": "A processor", "threads": 1},
        "versions": {"gpmt": "0.1.0", "torch": "2.10"},
    } | changes
    (path / "metrics.json").write_text(json.dumps(metrics))
    (path / "recipe.yaml").write_text(yaml.safe_dump(settings))
    write_history(path / "history.csv")
    return metrics


def write_history(path: Path) -> None:
    """Write history.csv: two phases, of which the second has columns that the first lacks."""
    rows = [{"phase": "dense", "epoch": 0, "test_top1": 0.1, "test_top5": 0.5}]
    rows += [{"phase": "dense", "epoch": 1, "test_top1": 0.9, "test_top5": 0.97}]
    rows += [{"phase": "finetune", "epoch": 0, "test_top1": 0.4, "sparsity": 0.9}]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["phase", "epoch", "test_top1", "test_top5", "sparsity"], restval="")
        writer.writeheader()
        writer.writerows(rows)


def write_sweep(path: Path, runs: list[dict[str, Any]], **results: Any) -> None:
    """Write sweep.json and results.json for runs, each with `folder`, `variant` and `values`."""
    path.mkdir(parents=True, exist_ok=True)
    about = {
        "title": "A sweep",
        "axes": ["sparsity", "seed"],
        "commands": ["gpmt sweep small sparsity=0.8,0.9 seed=0,1 -o sweep"],
        "versions": {"gpmt": "0.1.0"},
        "runs": [{"variant": "", "overrides": [], **run} for run in runs],
    }
    (path / "sweep.json").write_text(json.dumps(about))
    (path / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    (path / "results.json").write_text(json.dumps({"runs": [], "failed": [], "infeasible": [], **results}))


def write_bench(path: Path, weights_path: str, **changes: Any) -> None:
    """Write what ``gpmt bench --json`` prints."""
    document = {
        "file": weights_path,
        "processor": "A processor",
        "threads": 1,
        "batch": 1,
        "engines": {"gpmt": {"seconds": 0.001}, "eager": {"seconds": 0.003}},
    } | changes
    path.write_text(json.dumps(document))
