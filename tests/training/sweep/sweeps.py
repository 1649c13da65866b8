"""The short sweep on the digits that the tests start from."""

import json
from pathlib import Path
from typing import Any

from gpmt.training.sweep.grid import Grid, make_grid

SHORT = ["dense.epochs=1", "finetune.epochs=2", "dense.warmup_epochs=0", "sparsity=0.9"]
AXIS = "finetune.lr=0.1,0.05"
FIRST, SECOND = "finetune.lr=0.1", "finetune.lr=0.05"


def small_grid(*settings: str) -> Grid:
    return make_grid("digits", [*SHORT, AXIS, *settings])


def without_times(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def read_metrics(out: Path, run_name: str) -> dict[str, Any]:
    return json.loads((out / run_name / "metrics.json").read_text())
