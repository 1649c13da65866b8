"""Any value at any place of the documents that are read: the report is made, or one error says why not."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.report.folders import write_run, write_sweep
from tests.training.compare.comparisons import results_of, small_comparison

import gpmt
from gpmt.errors import GpmtError
from gpmt.report.content.checklist import checklist
from gpmt.report.content.read import read_report
from gpmt.training.compare.outcome import outcome

VALUES = [None, [], {}, "x", "²", -1, 3.5, True, [1], [{}], {"a": 1}, 10**30, float("nan")]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value, of lists the first two."""
    if path:
        yield path
    items = (
        value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    )
    for key, inner in items:
        yield from places(inner, (*path, key))


def metrics(folder: Path) -> Path:
    write_run(folder / "run")
    for name in ("dense.pt", "model.pt"):
        (folder / "run" / name).unlink()
    return folder / "run" / "metrics.json"


def sweep(folder: Path) -> Path:
    runs = [{"folder": "one", "variant": "GP", "values": {"sparsity": "0.9", "seed": "0"}}]
    write_sweep(folder / "sweep", runs, failed=[{"folder": "one", "error": "killed"}])
    return folder / "sweep" / "sweep.json"


def comparison(folder: Path) -> Path:
    path = sweep(folder).with_name("comparison.json")
    made = small_comparison()
    path.write_text(json.dumps(outcome(made, results_of(made, lambda _: 0.9))))
    return path


def plan(folder: Path) -> Path:
    made = gpmt.plan(
        {"fc.weight": torch.rand(8, 8), "fd.weight": torch.rand(8, 8)}, sparsity={"fc.*": 0.5, "*": 0.9}
    )
    (folder / "plan.json").write_text(json.dumps(made.to_dict() | {"dense_macs": {"fc.weight": 64}}))
    return folder / "plan.json"


@pytest.mark.parametrize("make", [metrics, sweep, comparison, plan])
def test_any_value_is_survived(tmp_path: Path, make: Any):
    path = make(tmp_path)
    document = json.loads(path.read_text())
    read_report([path])

    @settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.sampled_from(list(places(document))), st.sampled_from(VALUES))
    def check(place: tuple[Any, ...], value: Any) -> None:
        changed = copy.deepcopy(document)
        inner = changed
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = value
        path.write_text(json.dumps(changed))
        try:
            report = read_report([path])
        except GpmtError as error:
            reason = str(error)
        else:
            reason = str(path)
            json.dumps(report.to_dict(), allow_nan=False)
            checklist(report)
        assert str(path) in reason

    check()
