"""Short runs on the digits, the weights they leave, and Ctrl-C in the middle of them."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gpmt.formats.checkpoint import load_checkpoint
from gpmt.training.recipes.files import load_recipe
from gpmt.training.recipes.schema import Recipe
from gpmt.training.run import phase

SHORT = ("dense.epochs=2", "finetune.epochs=2", "dense.warmup_epochs=0")
FEW_IMAGES = ("data.train_limit=320", "data.test_limit=101")
FILES = {
    "README.md", "best.pt", "dense.pt", "history.csv", "log.txt", "masks.safetensors", "metrics.json", "model.pt",
    "recipe.yaml",
}  # fmt: skip
GPMT = [sys.executable, "-m", "gpmt"]
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}


def digits_recipe(*overrides: str) -> Recipe:
    """Two epochs of each phase, on all digits."""
    return load_recipe("digits", [*SHORT, *overrides])


def short_recipe(*overrides: str) -> Recipe:
    """The same on fewer digits."""
    return digits_recipe(*FEW_IMAGES, *overrides)


def weights(path: Path) -> dict[str, Tensor]:
    return load_checkpoint(path).state_dict


def same_weights(a: Path, b: Path) -> bool:
    first, second = weights(a), weights(b)
    return list(first) == list(second) and all(torch.equal(first[name], second[name]) for name in first)


def comparable(metrics: dict[str, Any]) -> dict[str, Any]:
    """Return the metrics without what depends on the clock."""
    rest = {
        key: value
        for key, value in metrics.items()
        if key not in ("started", "finished", "seconds", "commands")
    }
    rest["history"] = {
        phase: [{k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for row in rows]
        for phase, rows in metrics["history"].items()
    }
    return rest


def file_names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def interrupt(monkeypatch: pytest.MonkeyPatch, *, epoch: int, images: int = 0) -> None:
    """Press Ctrl-C in epoch `epoch` of this start, from 1, once more than `images` were seen in it."""
    train_epoch, started = phase.train_epoch, 0

    def interrupted(*args: Any, advance: Any, **settings: Any) -> Any:
        nonlocal started
        started += 1
        seen = 0

        def counted(count: int, loss: Tensor) -> None:
            nonlocal seen
            seen += count
            if started == epoch and seen > images:
                raise KeyboardInterrupt
            advance(count, loss)

        return train_epoch(*args, advance=counted, **settings)

    monkeypatch.setattr(phase, "train_epoch", interrupted)


def plain_network(num_classes: int, input_shape: tuple[int, ...]) -> nn.Module:
    """Two linear layers without batch norms."""
    size = torch.Size(input_shape).numel()
    return nn.Sequential(nn.Flatten(), nn.Linear(size, 16), nn.ReLU(), nn.Linear(16, num_classes))


PLAIN_NETWORK = "model=tests.training.run.runs:plain_network"
